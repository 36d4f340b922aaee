"""A week replayed through a real service on a home that has not seen it, held against a home that has."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from assets_tests import homes
from assets_tests.serving import service_home
from benchmarks import replay
from benchmarks._replay_homes import ReplayHomes, land_before

WEEK = homes.FIRST + timedelta(days=28)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A landing through the last report on the week."""
    landing = tmp_path_factory.mktemp("whole") / "landing"
    homes.land(landing, 42, customers=60, terminals=120)
    return landing


@pytest.fixture(scope="module")
def built(whole: Path) -> Iterator[ReplayHomes]:
    with homes.folder_in_memory() as folder:
        found = ReplayHomes(whole, folder, WEEK, {**service_home.SETTINGS, "threads": 1})
        found.build()
        yield found


def test_nothing_of_the_week_has_landed_in_the_home_of_the_service(whole: Path, tmp_path: Path) -> None:
    land_before(whole, tmp_path, WEEK)

    days = {path.stem for path in tmp_path.rglob("20*.parquet")}
    assert (min(days), max(days)) == (str(homes.FIRST), str(WEEK - timedelta(days=1)))
    land_before(whole, tmp_path, WEEK + timedelta(days=99))
    files = [{path.relative_to(root) for path in root.rglob("*.*")} for root in (whole, tmp_path)]
    assert files[0] == files[1]


def test_events_come_in_time_order_and_each_label_when_it_became_known(whole: Path) -> None:
    found = list(replay.events(whole, WEEK))

    times = [body.get("REPORTED_AT") or body["TX_DATETIME"] for _, body in found]
    assert times == sorted(times)
    assert (times[0][:10], times[-1][:10]) >= (str(WEEK), str(WEEK + timedelta(days=13)))
    scored = {body["TRANSACTION_ID"]: at for at, (path, body) in enumerate(found) if path == "/v1/score"}
    told = {body["TRANSACTION_ID"]: at for at, (path, body) in enumerate(found) if path == "/v1/feedback"}
    assert all(scored[key] < at for key, at in told.items() if key in scored)


@pytest.mark.slow
def test_a_replayed_week_is_what_the_offline_side_makes_of_it(built: ReplayHomes) -> None:
    replayed = replay.replay(built)
    compared = replay.compare(built)

    assert replay.short(replayed, compared) == []
    assert (replayed.rows, replayed.labels) == (compared.rows, replayed.new_labels)
    assert compared.online == compared.offline


def test_what_falls_short_is_said_in_words() -> None:
    replayed = replay.Replayed(rows=2, labels=3, new_labels=3, refused=[], seconds=1.0)
    figures = {"auc_roc": 0.9, "average_precision": 0.7}
    compared = replay.Compared(2, 0, {}, 0, 1e-8, figures, figures)

    assert replay.short(replayed, compared) == []
    wrong = replace(
        compared, differing={"TX_AMOUNT": 2}, apart=float("nan"), online={**figures, "auc_roc": 0.8}
    )
    assert replay.short(replace(replayed, refused=["/v1/score 1: 500"]), wrong) == [
        "1 requests refused, such as ['/v1/score 1: 500']",
        "other features than offline: TX_AMOUNT in 2 rows",
        "a probability nan from bulk scoring",
        "figures 1.0e-01 from the report's",
    ]
