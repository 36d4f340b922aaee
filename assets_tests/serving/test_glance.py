"""The page's file and headers, and the service at a glance as its log tells it."""

import base64
import hashlib
import re
from importlib.resources import files
from pathlib import Path

from my_platform.serving.glance import recent_decisions
from my_platform.serving.log import Prediction, PredictionLog
from my_platform.serving.page_paths import page_headers

PAGE = files("my_platform.serving").joinpath("page.html").read_text()


def log_of(path: Path, scores: list[tuple[str, float]]) -> Path:
    """A log of rows by (bundle, probability), whose latencies are 1, 2, … microseconds."""
    log = PredictionLog(path)
    log.append(
        [
            Prediction(
                str(n),
                0,
                n,
                f'{{"ID": {n}}}',
                bundle,
                "[]",
                None,
                score,
                0.5,
                int(score >= 0.5),
                n + 1,
                None,
                None,
            )
            for n, (bundle, score) in enumerate(scores)
        ]
    )
    log.close()
    return path


def test_a_glance_is_of_the_last_thousand_rows_of_the_bundle_that_scored_last(tmp_path: Path) -> None:
    path = log_of(tmp_path / "log.sqlite", [("a", 0.9)] * 50 + [("b", 0.75)] * 10 + [("b", 0.05)] * 1_000)

    found = recent_decisions(path, 3)

    assert [each["row"]["ID"] for each in found["decisions"]] == [1_059, 1_058, 1_057]
    assert (found["rows"], found["flagged"], found["drift"]) == (1_000, 0, None)
    assert (found["scores"][0], found["scores_before"][7], sum(found["scores_before"])) == (1_000, 10, 10)
    assert found["latency_us"] == {"p50": 560, "p99": 1_050}


def test_scores_that_moved_have_drifted_and_others_have_not(tmp_path: Path) -> None:
    before = [("a", n % 97 / 97) for n in range(3_000)]
    steady = log_of(tmp_path / "steady.sqlite", [*before, *(("a", n % 89 / 89) for n in range(1_000))])
    moved = log_of(tmp_path / "moved.sqlite", [*before, *(("a", (n % 89 / 89) ** 3) for n in range(1_000))])

    drifts = [recent_decisions(path, 1)["drift"] for path in (steady, moved)]

    assert drifts[0] < 0.1
    assert drifts[1] > 0.25


def test_an_empty_log_has_nothing_to_show(tmp_path: Path) -> None:
    found = recent_decisions(log_of(tmp_path / "log.sqlite", []), 5)

    assert (found["decisions"], found["rows"], found["latency_us"]["p99"], found["drift"]) == (
        [],
        0,
        None,
        None,
    )


def test_the_page_runs_its_own_script_and_style_and_nothing_else() -> None:
    policy = page_headers(PAGE.encode())["Content-Security-Policy"]

    for tag in ("script", "style"):
        (block,) = re.findall(rf"<{tag}>(.*?)</{tag}>", PAGE, re.S)
        digest = base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}';" in policy
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    # No address of another site, nothing that is made of text, and no style or handler within a tag.
    found = set(re.findall(r"https?://[^\"'\s]+", PAGE))
    assert found == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|eval\(|\sstyle=|\son\w+=\"", PAGE)


def test_the_page_knows_no_domain() -> None:
    assert not re.search(r"fraud|customer|terminal|amount_|TX_", PAGE, re.I)
