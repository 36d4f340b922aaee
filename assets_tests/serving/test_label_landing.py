"""Labels that the service was told, landed among those that their source delivers."""

import json
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from assets_tests import homes
from assets_tests.serving.service_home import SETTINGS, copied
from my_platform.domains.fraud.landing_files import REPORT_SCHEMA, reports_path, write_table
from my_platform.domains.fraud.service import services
from my_platform.operations.home import land_logs
from my_platform.serving.label_landing import LandedLabels, land_labels
from my_platform.serving.log import PredictionLog
from my_platform.settings import Settings

(SERVICE,) = services(Settings())
Report = tuple[int, float, bool]
"""Id of the row, days from the first on, whether it is fraud."""
REPORTS = st.lists(
    st.tuples(st.integers(1, 6), st.sampled_from([0.25, 0.5, 1.25, 2.0, 2.75]), st.booleans()), max_size=8
)


def at(days: float) -> datetime:
    return datetime.combine(homes.FIRST, datetime.min.time()) + timedelta(days=days)


class Place:
    """A landing folder and the log of a service beside it."""

    def __init__(self, folder: Path) -> None:
        self.landing, self.folder = folder / "landing", folder / "serving"
        self.log = PredictionLog(self.folder / "log.sqlite")

    def deliver(self, reports: list[Report]) -> None:
        """Let the source deliver all its days anew."""
        for path in self.landing.glob("fraud_reports/*"):
            path.unlink()
        for day in sorted({int(days) for _, days, _ in reports}):
            rows = [(key, at(days), fraud) for key, days, fraud in reports if int(days) == day]
            frame = pl.DataFrame(rows, schema=REPORT_SCHEMA, orient="row")
            write_table(frame, reports_path(self.landing, at(day).date()))

    def tell(self, key: int, days: float, fraud: bool) -> None:
        label = json.dumps({"REPORTED_AT": at(days).isoformat(), "IS_FRAUD": fraud})
        self.log.tell(str(key), 0, label)

    def withdraw(self) -> None:
        for label in list(self.log.latest_labels()):
            self.log.withdraw(label, 0)

    def land(self, days: float = 10) -> LandedLabels:
        return land_labels(self.folder, self.landing, SERVICE, now=at(days).replace(tzinfo=UTC))

    @property
    def files(self) -> Mapping[str, bytes]:
        return {path.stem: path.read_bytes() for path in sorted(self.landing.glob("fraud_reports/*"))}

    @property
    def reports(self) -> list[Report]:
        """What the files say, by id and time."""
        found = [pl.read_parquet(path) for path in sorted(self.landing.glob("fraud_reports/*.parquet"))]
        rows = (
            pl.concat([pl.DataFrame(schema=REPORT_SCHEMA), *found])
            .sort("TRANSACTION_ID", "REPORTED_AT")
            .rows()
        )
        return [(key, (time - at(0)) / timedelta(days=1), fraud) for key, time, fraud in rows]


def test_a_label_lands_on_the_day_on_which_it_became_known(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.deliver([(1, 0.5, False), (2, 1.5, False)])
    before = place.files
    place.tell(3, 1.25, True)
    place.tell(4, 2.5, True)

    done = place.land(days=2.75)

    assert (done.written, done.open_days) == ({homes.day(1): 2}, [homes.day(2)])
    assert place.reports == [(1, 0.5, False), (2, 1.5, False), (3, 1.25, True)]
    assert place.files[homes.day(0)] == before[homes.day(0)]
    assert place.land(days=2.75).written == {}
    assert place.land().written == {homes.day(2): 1}


def test_a_label_that_the_file_says_later_counts_once_and_where_it_was_known_first(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.deliver([(1, 2.5, True), (2, 2.5, False)])
    place.tell(1, 0.5, True)

    done = place.land()

    assert place.reports == [(1, 0.5, True), (2, 2.5, False)]
    assert (done.written, done.differing) == ({homes.day(0): 1, homes.day(2): 1}, [])


def test_of_two_that_differ_the_one_known_first_counts_and_that_is_told(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.deliver([(1, 2.5, False), (2, 0.25, False)])
    place.tell(1, 0.5, True)
    place.tell(2, 0.5, True)

    done = place.land()

    assert place.reports == [(1, 0.5, True), (2, 0.25, False)]
    assert [(each.key, each.counts) for each in done.differing] == [(2, "file"), (1, "service")]
    assert (
        "the file says IS_FRAUD = False, and the service was told IS_FRAUD = True" in done.differing[1].said
    )


def test_what_is_delivered_anew_is_merged_anew(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.deliver([(1, 0.5, False)])
    place.tell(3, 0.25, True)
    place.land()
    merged = place.files

    place.deliver([(1, 0.5, False)])
    assert place.land().written == {homes.day(0): 2}
    assert place.files == merged
    place.deliver([(1, 0.5, False), (3, 0.25, True)])
    assert place.land().written == {}
    assert place.reports == [(1, 0.5, False), (3, 0.25, True)]


def test_a_day_that_cannot_be_merged_is_left_and_told(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.deliver([(1, 0.5, False)])
    csv = place.landing / "fraud_reports" / f"{homes.day(1)}.csv"
    csv.write_text("TRANSACTION_ID,REPORTED_AT,IS_FRAUD\n")
    broken = reports_path(place.landing, at(2).date())
    broken.write_bytes(b"PAR1 and no more")
    for days in (0.25, 1.25, 2.25):
        place.tell(int(days * 100), days, True)

    done = place.land()

    assert done.written == {homes.day(0): 2}
    assert [str(path) in problem for path, problem in zip((broken, csv), done.problems, strict=True)] == [
        True
    ] * 2
    assert broken.read_bytes() == b"PAR1 and no more"


@settings(max_examples=60, deadline=None)
@given(REPORTS, REPORTS)
def test_each_told_row_counts_once_and_taking_all_back_leaves_what_was_delivered(
    delivered: list[Report], told: list[Report]
) -> None:
    # A source says a row once, and so does the service.
    delivered = list({key: (key, days, fraud) for key, days, fraud in delivered}.values())
    told = list({key: (key, days, fraud) for key, days, fraud in told}.values())
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder))
        place.deliver(delivered)
        before = place.files
        for report in told:
            place.tell(*report)

        place.land()

        first = {key: (key, days, fraud) for key, days, fraud in told}
        for key, days, fraud in delivered:
            if key not in first or days <= first[key][1]:
                first[key] = (key, days, fraud)
        assert place.reports == sorted(first.values())
        place.withdraw()
        place.land()
        assert place.files == before
        assert not list((place.folder / "labels").glob("*.parquet"))
        place.log.close()


def test_landed_labels_make_exactly_the_partitions_owed_that_read_them(
    made_home: Path, tmp_path: Path
) -> None:
    home = copied(made_home, tmp_path)
    with homes.session(home, **SETTINGS) as session:
        lake, before = session.workspace.lake, session.versions()
        reports = lake.read(
            "validated/fraud_reports", homes.day(20), before["validated/fraud_reports"][homes.day(20)]
        )
        key = reports["TRANSACTION_ID"][0]
    log = PredictionLog(home / "serving" / "fraud" / "log.sqlite")
    known = f"{homes.day(16)}T12:00:00"
    log.tell(str(key), 0, json.dumps({"REPORTED_AT": known, "IS_FRAUD": bool(reports["IS_FRAUD"][0])}))
    select = "raw/fraud_reports,validated/fraud_reports,labelled_transactions"

    landed = land_logs(homes.small(home))["fraud_reports"]
    with homes.session(home, **SETTINGS) as session:
        done = session.refresh(select=select)

    assert isinstance(landed, LandedLabels)
    assert set(landed.written) == {homes.day(16), homes.day(20)}
    assert {asset: set(days) for asset, days in done.outcome.computed.items()} == {
        asset: set(landed.written) for asset in select.split(",")
    }
    (standing,) = log.labels(str(key))
    log.withdraw(standing, 0)
    land_logs(homes.small(home))
    with homes.session(home, **SETTINGS) as session:
        again = session.refresh(select=select)
        assert (again.outcome.computed, session.versions()) == ({}, before)
    log.close()
