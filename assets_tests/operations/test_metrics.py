"""The platform's metrics say what the plan and the ledgers say, in a format that Prometheus' own parser reads."""

import json
import re
import signal
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from assets_tests import homes
from assets_tests.operations import watched_shop
from assets_tests.operations.watched_shop import DAYS, file_of, land, land_all
from my_platform.errors import PlatformError
from my_platform.operations.metrics import Metric, collect, exposition
from my_platform.operations.metrics_endpoint import LOOPBACK, listening
from my_platform.operations.session import opened
from my_platform.storage.trace_index import TraceIndex

MONITORING = homes.CHECKOUT / "deploy" / "monitoring"
Told = dict[tuple[str, ...], float]
"""Value by name and label values."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that is up to date."""
    folder = tmp_path_factory.mktemp("metrics") / "home"
    land_all(folder)
    with watched_shop.opened_shop(folder) as shop:
        assert shop.session.refresh().problems == []
    return folder


def told(home: Path) -> Told:
    with opened(watched_shop.settings(home)) as session:
        return parsed(exposition(collect(session.settings, session.workspace, session.heads)))


def parsed(text: str) -> Told:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_an_idle_home_owes_nothing_and_tells_what_it_has_computed(home: Path) -> None:
    found = told(home)
    assert {found["my_platform_owed_partitions", name] for name in ("raw/orders", "turnover")} == {0}
    assert found["my_platform_current_partitions", "raw/orders"] == DAYS
    assert found["my_platform_computed_partitions_total", "turnover"] == DAYS
    assert found["my_platform_cpu_seconds_total", "validated/orders"] > 0
    assert (
        found["my_platform_stored_bytes", "raw/orders"]
        == found["my_platform_written_bytes_total", "raw/orders"]
    )
    assert found["my_platform_ended_runs_total", "success"] == 1
    assert found["my_platform_runs", "queued"] == found["my_platform_runs", "under_way"] == 0
    assert found["my_platform_data_age_seconds", "orders"] > 0
    assert found["my_platform_missing_days", "orders"] == 0


def test_what_is_owed_missing_reused_and_refused_is_told(home: Path) -> None:
    before = told(home)
    gone = file_of(home, 3).rename(home / "aside.parquet")
    land(home, 2, lambda rows: rows.with_columns(AMOUNT=rows["AMOUNT"] + 1))
    found = told(home)
    assert found["my_platform_missing_days", "orders"] == 1
    assert found["my_platform_owed_partitions", "raw/orders"] == 1
    assert (
        found["my_platform_owed_partitions", "turnover"]
        + found["my_platform_possible_partitions", "turnover"]
        == 1
    )
    land(home, 2)
    gone.rename(file_of(home, 3))
    land(home, 4, lambda rows: rows.drop("AMOUNT"))
    refresh(home)
    found = told(home)
    assert found["my_platform_refused_partitions", "raw/orders"] == 1
    land(home, 5, lambda rows: rows.with_columns(AMOUNT=rows["AMOUNT"] + 1))
    refresh(home)
    land(home, 4)
    land(home, 5)
    refresh(home)
    after = told(home)
    name = ("my_platform_computed_partitions_total", "turnover")
    assert after[name] - before[name] == 1
    name = ("my_platform_reused_partitions_total", "turnover")
    assert after[name] - before.get(name, 0) == 1
    assert after["my_platform_refused_partitions", "raw/orders"] == 0


def refresh(home: Path) -> None:
    with watched_shop.opened_shop(home) as shop:
        shop.session.refresh()


def test_reading_metrics_changes_nothing(home: Path) -> None:
    first, second = (
        {key: value for key, value in told(home).items() if "seconds" not in key[0]} for _ in range(2)
    )
    assert first == second


@pytest.mark.parametrize("text", ['a "b"', "a\\b", "a\nb", "ä, {}", ""])
def test_any_label_and_help_comes_back_as_it_was(text: str) -> None:
    written = exposition([Metric("my_platform_x", "gauge", text, [({"asset": text, "other": "y"}, 1.5)])])
    (family,) = text_string_to_metric_families(written)
    assert family.samples[0].labels == {"asset": text, "other": "y"}
    assert family.samples[0].value == 1.5
    assert family.documentation == text


def test_dashboard_and_rules_ask_for_metrics_that_are_told(home: Path) -> None:
    # Of a home without alerts and models some are not told.
    more = {"my_platform_alerts", "my_platform_champion", "my_platform_promotions_total"}
    known = {name for name, *_ in told(home)} | more
    for file in ("platform-dashboard.json", "platform-alerts.yml", "platform-alerts.test.yml"):
        text = (MONITORING / file).read_text().replace("my_platform_home", "")
        assert set(re.findall(r"\bmy_platform_[a-z0-9_]+", text)) <= known, file
    rules = (MONITORING / "platform-alerts.yml").read_text()
    names = set(re.findall(r"alert: (\w+)", rules))
    assert (
        set(re.findall(r"alertname: (\w+)", (MONITORING / "platform-alerts.test.yml").read_text())) == names
    )


@pytest.fixture
def address() -> Iterator[str]:
    answers = iter(["my_platform_x 1\n", PlatformError("landing cannot be read")])

    def text() -> str:
        found = next(answers)
        if isinstance(found, PlatformError):
            raise found
        return found

    with listening(0, text, lambda _: None) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://{LOOPBACK}:{server.server_port}"
        server.shutdown()
        thread.join(10)


def test_the_endpoint_answers_and_says_what_is_wrong(address: str) -> None:
    with urllib.request.urlopen(f"{address}/metrics", timeout=10) as response:
        assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert response.read() == b"my_platform_x 1\n"
    for path, status, said in (("/metrics", 503, "landing cannot be read"), ("/", 404, "/metrics")):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(address + path, timeout=10)
        assert (refused.value.code, said in refused.value.read().decode()) == (status, True)


def test_a_port_that_is_taken_is_told() -> None:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        with (
            pytest.raises(PlatformError, match="choose another one with --port"),
            listening(taken.getsockname()[1], str, print),
        ):
            pass


@pytest.mark.slow
def test_the_command_prints_writes_and_serves_the_same(home: Path) -> None:
    given: dict[str, Any] = {"domains": "assets_tests.operations.watched_shop", "code": homes.CHECKOUT}
    file = home.parent / "platform.prom"
    told_in_json = homes.answer(homes.start(home, "metrics", "--into", str(file), "--json", **given))[
        "metrics"
    ]
    printed, errors = homes.start(home, "metrics", **given).communicate(timeout=120)
    served = homes.start(home, "metrics", "--port", "0", **given)
    assert served.stdout is not None
    url = served.stdout.readline().strip()
    with urllib.request.urlopen(url, timeout=60) as response:
        scraped = response.read().decode()
    served.send_signal(signal.SIGTERM)
    assert served.wait(30) == 0
    names = [
        list(dict.fromkeys(name for name, *_ in parsed(text)))
        for text in (printed, scraped, file.read_text())
    ]
    assert names[0] == names[1] == names[2], errors
    assert set(names[0]) <= told_in_json.keys()
    assert json.dumps(told_in_json)


def test_reuse_is_counted_over_processes(tmp_path: Path) -> None:
    for _ in range(2):
        TraceIndex(tmp_path / "index.sqlite").add_reused("a", 3)
    assert TraceIndex(tmp_path / "index.sqlite").reused() == {"a": 6}
