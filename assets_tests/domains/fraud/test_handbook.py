import os
from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from my_platform.domains.fraud.handbook import import_handbook
from my_platform.domains.fraud.landing_files import (
    LABEL_DELAY,
    REPORT_SCHEMA,
    TRANSACTION_SCHEMA,
    Calendar,
    LandingSummary,
    SourceError,
    read_calendar,
    reports_path,
    scenarios_path,
    transactions_path,
)
from my_platform.domains.fraud.simulator import SimulatorConfig, land_correction, land_simulation

DAY = date(2018, 4, 1)
CHECKOUT = Path(__file__).parents[3]


@pytest.fixture
def handbook() -> Path:
    default = CHECKOUT.parent / "shared" / "data" / "handbook" / "transactions"
    folder = Path(os.environ.get("MY_PLATFORM_HANDBOOK", default))
    if not folder.is_dir():
        pytest.skip(f"the Handbook's data is not at {folder}; set MY_PLATFORM_HANDBOOK to its folder")
    return folder


def write_day(folder: Path, day: date = DAY, columns: dict[str, pl.Series] | None = None) -> Path:
    """A raw file of two rows; a column given replaces the usual one."""
    usual: dict[str, Any] = {
        "TRANSACTION_ID": [0, 1],
        "TX_DATETIME": [datetime(day.year, day.month, day.day, hour) for hour in (1, 2)],
        "CUSTOMER_ID": [596, 4961],
        "TERMINAL_ID": [3156, 3412],
        "TX_AMOUNT": [57.16, 81.51],
        "TX_TIME_SECONDS": [31, 130],
        "TX_FRAUD": [0, 1],
    }
    folder.mkdir(exist_ok=True)
    path = folder / f"{day}.parquet"
    pl.DataFrame(usual | (columns or {})).write_parquet(path)
    return path


def test_real_files_are_split_into_transactions_and_reports(handbook: Path, tmp_path: Path) -> None:
    summary = import_handbook(handbook, tmp_path, first=date(2018, 4, 3), through=date(2018, 4, 5))
    raw = pl.concat(pl.read_parquet(handbook / f"2018-04-0{day}.parquet") for day in (3, 4, 5))
    landed = pl.read_parquet(sorted(tmp_path.glob("transactions/*.parquet")))
    reported = pl.read_parquet(sorted(tmp_path.glob("fraud_reports/*.parquet")))
    assert landed.schema == TRANSACTION_SCHEMA
    assert landed.sort("TRANSACTION_ID").equals(raw.select(TRANSACTION_SCHEMA.names()).sort("TRANSACTION_ID"))
    assert reported.schema == REPORT_SCHEMA
    labels = raw.select(
        "TRANSACTION_ID", pl.col("TX_DATETIME") + LABEL_DELAY, pl.col("TX_FRAUD").cast(pl.Boolean)
    )
    assert reported.sort("TRANSACTION_ID").rows() == labels.sort("TRANSACTION_ID").rows()
    assert summary == LandingSummary(raw.height, int(raw["TX_FRAUD"].sum()), days=3, files=6)
    assert read_calendar(tmp_path) == Calendar(date(2018, 4, 3), date(2018, 4, 12))


def test_all_real_files_are_imported(handbook: Path, tmp_path: Path) -> None:
    summary = import_handbook(handbook, tmp_path)
    assert summary == LandingSummary(rows=1_303_778, frauds=10_659, days=136, files=272)
    assert read_calendar(tmp_path) == Calendar(DAY, date(2018, 8, 21))


def test_a_second_import_leaves_the_bytes(tmp_path: Path) -> None:
    write_day(tmp_path / "raw")
    import_handbook(tmp_path / "raw", tmp_path / "landing")
    files = [
        transactions_path(tmp_path / "landing", DAY),
        reports_path(tmp_path / "landing", DAY + LABEL_DELAY),
    ]
    landed = [path.read_bytes() for path in files]
    import_handbook(tmp_path / "raw", tmp_path / "landing")
    assert [path.read_bytes() for path in files] == landed


def test_a_later_import_extends_the_calendar(tmp_path: Path) -> None:
    for day in (1, 2, 3):
        write_day(tmp_path / "raw", date(2018, 4, day))
    told: list[date] = []
    import_handbook(tmp_path / "raw", tmp_path / "landing", through=date(2018, 4, 2), on_day=told.append)
    import_handbook(tmp_path / "raw", tmp_path / "landing", first=date(2018, 4, 3), on_day=told.append)
    assert read_calendar(tmp_path / "landing") == Calendar(DAY, date(2018, 4, 10))
    assert told == [date(2018, 4, day) for day in (1, 2, 3)]


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("TRANSACTION_ID", pl.Series(["0", "1"])),
        ("CUSTOMER_ID", pl.Series([596, 4961], dtype=pl.UInt16)),
        ("TERMINAL_ID", pl.Series([3156.0, 3412.0])),
        ("TX_DATETIME", pl.Series(["2018-04-01 01:00:00", "2018-04-01 02:00:00"])),
        (
            "TX_DATETIME",
            pl.Series([datetime(2018, 4, 1, 1), datetime(2018, 4, 1, 2)], dtype=pl.Datetime("ns")),
        ),
        ("TX_AMOUNT", pl.Series(["57.16", "81.51"])),
        ("TX_FRAUD", pl.Series(["0", "1"])),
        ("TX_FRAUD", pl.Series([False, True])),
    ],
)
def test_other_raw_types_are_landed_as_the_documented_ones(
    tmp_path: Path, column: str, values: pl.Series
) -> None:
    write_day(tmp_path / "raw", columns={column: values})
    write_day(tmp_path / "usual")
    for source in ("raw", "usual"):
        import_handbook(tmp_path / source, tmp_path / f"landing_{source}")
    for name in ("transactions/2018-04-01.parquet", "fraud_reports/2018-04-08.parquet"):
        assert (tmp_path / "landing_raw" / name).read_bytes() == (
            tmp_path / "landing_usual" / name
        ).read_bytes()


def test_times_with_a_zone_become_utc(tmp_path: Path) -> None:
    times = pl.Series([datetime(2018, 4, 1, 3), datetime(2018, 4, 2, 1)]).dt.replace_time_zone(
        "Europe/Brussels"
    )
    write_day(tmp_path / "raw", columns={"TX_DATETIME": times})
    import_handbook(tmp_path / "raw", tmp_path / "landing")
    landed = pl.read_parquet(transactions_path(tmp_path / "landing", DAY))
    assert landed["TX_DATETIME"].to_list() == [datetime(2018, 4, 1, 1), datetime(2018, 4, 1, 23)]


@pytest.mark.parametrize(
    ("column", "values", "found"),
    [
        ("TRANSACTION_ID", pl.Series(["0", "one"]), "'one' in row 1"),
        ("CUSTOMER_ID", pl.Series([596, None]), "None in row 1"),
        ("TERMINAL_ID", pl.Series([0.5, 1.0]), "0.5 in row 0"),
        ("TERMINAL_ID", pl.Series([2**63, 1], dtype=pl.UInt64), "9223372036854775808 in row 0"),
        ("TX_AMOUNT", pl.Series(["57.16", "much"]), "'much' in row 1"),
        ("TX_FRAUD", pl.Series([0, 2]), "2 in row 1"),
        ("TX_DATETIME", pl.Series(["2018-04-01 01:00:00", "noon"]), "'noon' in row 1"),
        ("TX_DATETIME", pl.Series([1522540800, 1522540801]), "Int64 is no time"),
        ("TX_DATETIME", pl.Series([datetime(2018, 4, 1), datetime(2018, 4, 2)]), r"2018, 4, 2.* in row 1"),
    ],
)
def test_a_value_that_cannot_be_landed_is_named(
    tmp_path: Path, column: str, values: pl.Series, found: str
) -> None:
    write_day(tmp_path / "raw", columns={column: values})
    with pytest.raises(SourceError, match=rf"2018-04-01\.parquet, column {column}: expected .*{found}"):
        import_handbook(tmp_path / "raw", tmp_path / "landing")
    assert not (tmp_path / "landing").exists()


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    path = write_day(tmp_path / "raw")
    pl.read_parquet(path).drop("TX_FRAUD").write_parquet(path)
    with pytest.raises(SourceError, match=r"2018-04-01\.parquet has no column TX_FRAUD"):
        import_handbook(tmp_path / "raw", tmp_path / "landing")


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    write_day(tmp_path / "raw").write_bytes(b"no parquet")
    with pytest.raises(SourceError, match=r"2018-04-01\.parquet is no readable Parquet file"):
        import_handbook(tmp_path / "raw", tmp_path / "landing")


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="raw is no folder"):
        import_handbook(tmp_path / "raw", tmp_path / "landing")


def test_a_folder_without_files_of_the_days_asked_for_is_refused(tmp_path: Path) -> None:
    write_day(tmp_path / "raw")
    with pytest.raises(SourceError, match=r"no file YYYY-MM-DD\.parquet from 2018-04-02 through the last"):
        import_handbook(tmp_path / "raw", tmp_path / "landing", first=date(2018, 4, 2))


def test_a_file_named_by_no_day_is_refused(tmp_path: Path) -> None:
    write_day(tmp_path / "raw").rename(tmp_path / "raw" / "2018-04-31.parquet")
    with pytest.raises(SourceError, match="found '2018-04-31'"):
        import_handbook(tmp_path / "raw", tmp_path / "landing")


def test_a_simulated_landing_is_refused(tmp_path: Path) -> None:
    write_day(tmp_path / "raw")
    config = SimulatorConfig(customers=10, terminals=1000)
    land_simulation(tmp_path / "landing", first=DAY, days=1, config=config, closed=True)
    with pytest.raises(SourceError, match="holds a simulation"):
        import_handbook(tmp_path / "raw", tmp_path / "landing")


def test_an_imported_landing_is_no_place_for_a_simulation(tmp_path: Path) -> None:
    write_day(tmp_path / "raw")
    import_handbook(tmp_path / "raw", tmp_path / "landing")
    with pytest.raises(SourceError, match="did not land"):
        land_simulation(tmp_path / "landing", first=DAY, days=1, config=SimulatorConfig(), closed=True)


def test_an_imported_day_can_be_corrected(tmp_path: Path) -> None:
    write_day(tmp_path / "raw")
    import_handbook(tmp_path / "raw", tmp_path / "landing")
    correction = land_correction(tmp_path / "landing", DAY)
    landed = pl.read_parquet(transactions_path(tmp_path / "landing", DAY))
    amounts = dict(landed.select("TRANSACTION_ID", "TX_AMOUNT").iter_rows())
    assert amounts[correction.transaction_id] == correction.amount_after


def test_the_kinds_of_frauds_land_with_their_reports_when_they_are_asked_for(tmp_path: Path) -> None:
    write_day(tmp_path / "raw", columns={"TX_FRAUD_SCENARIO": pl.Series([0, 2])})
    summary = import_handbook(tmp_path / "raw", tmp_path / "landing", scenarios=True)
    landed = pl.read_parquet(scenarios_path(tmp_path / "landing", DAY + LABEL_DELAY))
    assert landed.rows() == [(1, datetime(2018, 4, 8, 2), 2)]
    assert summary.files == 3


@pytest.mark.parametrize("kinds", [[1, 2], [0, 0], [0, -1]])
def test_kinds_that_contradict_the_labels_are_refused(tmp_path: Path, kinds: list[int]) -> None:
    write_day(tmp_path / "raw", columns={"TX_FRAUD_SCENARIO": pl.Series(kinds)})
    with pytest.raises(SourceError, match="column TX_FRAUD_SCENARIO: expected 0 where TX_FRAUD is 0"):
        import_handbook(tmp_path / "raw", tmp_path / "landing", scenarios=True)
    assert not (tmp_path / "landing" / "transactions").exists()


def test_a_file_without_kinds_is_refused_where_they_are_asked_for(tmp_path: Path) -> None:
    write_day(tmp_path / "raw")
    with pytest.raises(SourceError, match="has no column TX_FRAUD_SCENARIO"):
        import_handbook(tmp_path / "raw", tmp_path / "landing", scenarios=True)
