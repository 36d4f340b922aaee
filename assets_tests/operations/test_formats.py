"""A home that an older version made opens as one of this version; one of a newer version is left alone."""

import json
import subprocess
import sys
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from assets_tests.homes import start
from assets_tests.operations import shop
from my_platform.errors import HomeError
from my_platform.learning.bundle import read_bundle
from my_platform.learning.ledger import PromotionLedger
from my_platform.operations import formats
from my_platform.operations.doctor.checks import examine_home
from my_platform.operations.formats import FORMAT, bring_to_present, format_of
from my_platform.operations.home import prepare_home
from my_platform.operations.instance_config import instance_config
from my_platform.operations.session import opened
from my_platform.settings import Settings

RELEASED = sorted((Path(__file__).parent / "released").glob("home-*.tar.xz"))
DAYS = ["2026-01-07", "2026-01-08", "2026-01-09"]


def settings(home: Path) -> Settings:
    return Settings(home=home, domains=("assets_tests.operations.shop_of_0_1_0",))


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The home that version 0.1.0 made."""
    return unpacked(RELEASED[0], tmp_path)


def unpacked(archive: Path, folder: Path) -> Path:
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return folder / "home"


@pytest.mark.parametrize("archive", RELEASED, ids=lambda path: path.name)
def test_a_home_of_each_released_version_opens_and_owes_only_what_other_code_owes(
    archive: Path, tmp_path: Path
) -> None:
    home = unpacked(archive, tmp_path)
    with opened(settings(home)) as session:
        before = session.versions()
        assert {asset: sorted(keys) for asset, keys in before.items()} == dict.fromkeys(
            ("raw/orders", "shop_week", "validated/orders"), DAYS
        )
        # None while rows are handled and hashed as they were; more when the code or an engine has moved on.
        code = session.workspace.project.code_versions
        owed = {
            asset: DAYS
            for asset in before
            if {t.code_version for t in session.workspace.lake.index.traces([asset])} != {code[asset]}
        }
        runs = session.instance.get_runs_count()
        report = session.refresh()

        assert report.outcome.computed == owed
        assert session.instance.get_runs_count() - runs == bool(owed)
        assert session.versions() == before
    assert format_of(home) == FORMAT
    champion = PromotionLedger(home / "registry" / "promotions.jsonl").standing("shop").champion
    assert champion is not None
    assert read_bundle(home / "registry" / "bundles", champion.bundle).files == {"model.txt": b"trees"}
    assert [each for each in examine_home(settings(home), deep=True) if each.status == "problem"] == []


def test_every_released_version_has_a_home_here() -> None:
    assert [path.name for path in RELEASED] == ["home-0.1.0.tar.xz"]


def test_a_configuration_that_nobody_edited_is_renewed_and_one_that_was_is_kept(old: Path) -> None:
    config = old / "dagster" / "dagster.yaml"
    first = config.read_text()

    assert bring_to_present(old) == [1]

    assert config.read_text() == instance_config()
    assert (old / "before-format-2" / "dagster" / "dagster.yaml").read_text() == first
    (old / "home.json").unlink()
    config.write_text("telemetry: {enabled: false}\n")
    assert bring_to_present(old) == [1]
    assert config.read_text() == "telemetry: {enabled: false}\n"
    # The copy from before the first step is the one that counts.
    assert (old / "before-format-2" / "dagster" / "dagster.yaml").read_text() == first


def test_a_new_home_has_the_present_format_and_is_not_migrated(tmp_path: Path) -> None:
    shop.land_days(tmp_path / "home", 1)

    prepare_home(shop.settings(tmp_path / "home"))

    assert format_of(tmp_path / "home") == FORMAT
    assert bring_to_present(tmp_path / "home") == []
    assert not list((tmp_path / "home").glob("before-*"))


@pytest.mark.parametrize("call", [prepare_home, lambda given: bring_to_present(given.home)])
def test_a_home_of_a_newer_version_is_refused_and_left_as_it_is(
    old: Path, call: Callable[[Settings], object]
) -> None:
    stamp = json.dumps({"format": FORMAT + 1, "version": "9.0"})
    (old / "home.json").write_text(stamp)
    before = sorted(old.rglob("*"))

    with pytest.raises(HomeError, match=f"has format {FORMAT + 1}, and this version of the platform reads"):
        call(settings(old))

    assert sorted(old.rglob("*")) == before
    assert (old / "home.json").read_text() == stamp


def test_the_command_line_refuses_a_newer_home_in_one_sentence(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "home.json").write_text('{"format": 99}')

    refused = start(home, "plan", domains="assets_tests.operations.shop")

    _, said = refused.communicate(timeout=120)
    assert refused.returncode == 2
    assert "format 99" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "2"}', '{"format": 0}', '{"format": true}'])
def test_a_stamp_that_says_no_format_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "home.json").write_text(text)

    with pytest.raises(HomeError, match="damaged"):
        bring_to_present(tmp_path)


@pytest.mark.parametrize("write", range(1, 5))
def test_a_migration_that_is_killed_at_any_write_is_done_by_the_next_opening(old: Path, write: int) -> None:
    script = (
        "import os, sys; from pathlib import Path; from my_platform.operations.formats import bring_to_present\n"
        "replace, left = os.replace, [int(sys.argv[2])]\n"
        "def die(*words):\n"
        "    left[0] -= 1\n"
        "    os._exit(9) if left[0] == 0 else replace(*words)\n"
        "os.replace = die\n"
        "bring_to_present(Path(sys.argv[1]))"
    )
    first = (old / "dagster" / "dagster.yaml").read_text()
    killed = subprocess.run([sys.executable, "-c", script, str(old), str(write)], check=False)
    assert killed.returncode == 9

    prepare_home(settings(old))

    assert format_of(old) == FORMAT
    assert (old / "dagster" / "dagster.yaml").read_text() == instance_config()
    assert (old / "before-format-2" / "dagster" / "dagster.yaml").read_text() == first
    assert (old / "before-format-2" / "registry" / "promotions.jsonl").exists()


def test_a_step_is_done_once_though_several_open_the_home(old: Path) -> None:
    done = []

    def open_home(_: int) -> list[int]:
        return bring_to_present(old, {1: done.append})

    with ThreadPoolExecutor(4) as several:
        found = sorted(several.map(open_home, range(4)))

    assert found == [[], [], [], [1]]
    assert done == [old]


def test_steps_lead_from_the_first_format_to_the_present_one() -> None:
    assert sorted(formats._STEPS) == list(range(1, FORMAT))
