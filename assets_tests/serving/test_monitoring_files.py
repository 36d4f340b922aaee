"""The Grafana dashboard and the Prometheus rules: they ask for what the service tells, and the real tool takes them."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from my_platform.serving.telemetry import Telemetry

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "monitoring"


def told() -> set[str]:
    """The names of the series that a service tells."""
    telemetry = Telemetry()
    telemetry.serves("bundle", "asset", "2026-01-07")
    telemetry.replied("score", 200, 0.001)
    return set(re.findall(r"^(my_platform_\w+)[{ ]", telemetry.text().decode(), re.M))


DASHBOARDS = ("dashboard.json", "platform-dashboard.json")


def dashboard(name: str) -> dict[str, Any]:
    found = json.loads((FOLDER / name).read_text())
    assert isinstance(found, dict)
    return found


def questions(name: str) -> list[str]:
    return [target["expr"] for panel in dashboard(name)["panels"] for target in panel["targets"]]


def asked(text: str) -> set[str]:
    return set(re.findall(r"(?<![:\w])my_platform_[a-z0-9_]+", text))


def promtool(*words: str, folder: Path = FOLDER) -> str:
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("promtool is not installed (Debian package prometheus)")
    done = subprocess.run([tool, *words], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_dashboard_and_alerts_ask_for_metrics_that_the_service_tells() -> None:
    assert asked(" ".join(questions("dashboard.json"))) <= told()
    assert asked((FOLDER / "alerts.yml").read_text()) <= told()


@pytest.mark.parametrize("name", DASHBOARDS)
def test_grafana_s_own_models_know_all_that_a_dashboard_says(name: str) -> None:
    written = dashboard(name)
    assert list(unknown(written, as_grafana_reads(written))) == []
    # A word that they do not know would be seen.
    written["panels"][0]["fieldConfig"]["defaults"]["units"] = "s"
    found = list(unknown(written, as_grafana_reads(written)))
    assert found == ["/panels/0/fieldConfig/defaults/units"]


def as_grafana_reads(written: dict[str, Any]) -> Any:
    """A dashboard as Grafana's SDK knows it, with its defaults and without what it does not know."""
    plugins.register_default_plugins()
    return json.loads(JSONEncoder().encode(Dashboard.from_json(written)))


def unknown(written: Any, read: Any, place: str = "") -> Iterator[str]:
    """The places of what was written and is not read as it was."""
    if isinstance(written, dict) and isinstance(read, dict):
        for name, value in written.items():
            yield from unknown(value, read.get(name), f"{place}/{name}")
    elif isinstance(written, list) and isinstance(read, list) and len(written) == len(read):
        for number, (value, found) in enumerate(zip(written, read, strict=True)):
            yield from unknown(value, found, f"{place}/{number}")
    elif written != read:
        yield place


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_have_their_own_numbers_and_places(name: str) -> None:
    panels = dashboard(name)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (panel["gridPos"]["x"] + x, panel["gridPos"]["y"] + y)
        for panel in panels
        for x in range(panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("check", "rules", "alerts.yml"),
        ("check", "config", "prometheus.yml"),
        ("test", "rules", "alerts.test.yml"),
        ("check", "rules", "platform-alerts.yml"),
        ("test", "rules", "platform-alerts.test.yml"),
    ],
    ids=" ".join,
)
def test_prometheus_takes_the_rules(words: tuple[str, ...]) -> None:
    said = promtool(*words)
    assert "WARNING" not in said.upper()


@pytest.mark.slow
@pytest.mark.parametrize("name", DASHBOARDS)
def test_prometheus_understands_each_question_of_a_dashboard(tmp_path: Path, name: str) -> None:
    rules = [
        {"record": f"q:{number}", "expr": question.replace("$__rate_interval", "5m").replace("$job", ".*")}
        for number, question in enumerate(questions(name))
    ]
    (tmp_path / "questions.yml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", "questions.yml", folder=tmp_path)
