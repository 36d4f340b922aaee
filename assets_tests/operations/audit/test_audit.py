"""The audit of real homes, by command."""

import inspect
import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from assets_tests.operations import shop
from my_platform.cli import app
from my_platform.operations import session
from my_platform.operations.alerts import conditions
from my_platform.operations.audit import findings
from my_platform.operations.audit.facts import history

DAYS = 9


def audit(home: Path, *words: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["--home", str(home), "audit", *words, "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MY_PLATFORM_DOMAINS", "assets_tests.operations.shop")
    return tmp_path / "home"


def refresh(home: Path) -> None:
    with session.opened(shop.settings(home)) as opened:
        opened.refresh()


def test_an_empty_home_says_what_is_missing(home: Path) -> None:
    found = audit(home)

    assert (found["computed"], found["findings"]) == (0, [])
    assert "nothing was computed: run `my-platform refresh`" in found["untold"]
    assert any("no file has landed" in each for each in found["untold"])


def test_a_healthy_home_has_no_finding_and_keeps_its_levels(home: Path) -> None:
    shop.land_days(home, DAYS)
    refresh(home)

    found = audit(home)

    assert found["findings"] == []
    fresh = {each["about"]: each for each in found["service_levels"] if each["name"] == "freshness"}
    assert {name: each["cases"] for name, each in fresh.items()}["validated/orders"] == DAYS
    assert all(each["met"] for each in fresh.values())


def test_a_file_that_lands_again_as_it_was_is_fresh_and_a_refused_one_is_not(home: Path) -> None:
    shop.land_days(home, DAYS)
    refresh(home)
    shop.land(home, shop.FIRST)
    refused = shop.land(home, shop.FIRST + timedelta(days=1))
    refused.write_text("no table")
    refresh(home)

    found = audit(home)

    (raw,) = [each for each in found["service_levels"] if each["about"] == "raw/orders"]
    # Nothing had to be done of the first, and the refused one has been lying there since it landed.
    assert raw["cases"] == DAYS - 1
    assert untaken(home) == {"raw/orders": [str(shop.FIRST + timedelta(days=1))]}


def untaken(home: Path) -> Any:
    with session.opened(shop.settings(home)) as opened:
        opened.workspace.look()
        return history(opened.workspace, opened.heads).untaken


def test_what_there_is_to_do_names_commands_that_exist() -> None:
    text = inspect.getsource(findings) + inspect.getsource(conditions)
    named = set(re.findall(r"my-platform ([a-z][a-z-]*)", text))
    known = {
        command.name or command.callback.__name__ for command in app.registered_commands if command.callback
    }
    assert named
    assert named <= {name.replace("_", "-") for name in known}


def test_a_value_that_was_lost_and_computed_again_is_told(home: Path) -> None:
    shop.land_days(home, DAYS)
    refresh(home)
    with session.opened(shop.settings(home)) as opened:
        index = opened.workspace.lake.index
        computed = len(list(index.costs()))
        last = max(opened.versions()["shop_week"])
        version = opened.versions()["shop_week"][last]
        (fingerprint,) = index.find("shop_week", last, version)
        opened.workspace.lake.discard("shop_week", last, fingerprint)
    refresh(home)

    found = audit(home)

    assert found["computed"] == computed + 1
    (finding,) = found["findings"]
    assert finding["kind"] == "computed_again"
    assert finding["evidence"][0].startswith(f"shop_week {last} (run ")


def test_the_page_has_what_the_command_says(home: Path) -> None:
    shop.land_days(home, DAYS)
    refresh(home)

    found = audit(home, "--page")

    page = Path(found["page"]).read_text()
    assert page.count('class="met"') == sum(each["met"] is True for each in found["service_levels"])
    assert "Nothing was found." in page
    assert "http" not in page
