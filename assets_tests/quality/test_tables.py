"""Raw and validated tables: what can be read of a landed file, and what is refused with which words."""

import gzip
import io
import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pandera.polars as pa
import polars as pl
import pyarrow
import pytest
from polars.testing import assert_frame_equal

from my_platform.errors import MemoryLimitError, Refused
from my_platform.incremental.content import data_version
from my_platform.incremental.declare import Grain, Produced
from my_platform.incremental.memory import Memory
from my_platform.incremental.parts import version_of_parts
from my_platform.quality.contracts import Contract, version_of
from my_platform.quality.parsing import read_landed, read_landed_in_parts
from my_platform.quality.tables import raw_table, validate, validated_table

DAY = "2018-04-01"
PIECE_BYTES, PIECE_ROWS = 700, 10


class Sales(pa.DataFrameModel):
    """Sales of a day."""

    id: int = pa.Field(unique=True)
    at: datetime = pa.Field()
    due: date = pa.Field()
    paid: bool = pa.Field()
    amount: float = pa.Field(ge=0)
    note: str = pa.Field(nullable=True)

    class Config:
        strict = True
        name = "sales"


CONTRACT = Contract(Sales, sort_by=("at", "id"), time="at")
ROWS = pl.DataFrame(
    {
        "id": range(20),
        "at": [datetime(2018, 4, 1, 23 - hour, 0, 0, hour) for hour in range(20)],
        "due": [date(2018, 5, 1)] * 20,
        "paid": [True, False] * 10,
        "amount": [0.1 * number for number in range(20)],
        "note": ["größe", None, 'quo"ted, and\nbroken', " blank "] * 5,
    },
    CONTRACT.schema,
)


def parquet(table: pl.DataFrame = ROWS, **options: Any) -> bytes:
    buffer = io.BytesIO()
    table.write_parquet(buffer, **options)
    return buffer.getvalue()


def csv(table: pl.DataFrame = ROWS) -> bytes:
    return table.write_csv().encode()


def zstd(data: bytes) -> bytes:
    buffer = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(buffer, "zstd") as stream:
        stream.write(data)
    return bytes(buffer.getvalue())


def landed(data: bytes, name: str = f"landing/sales/{DAY}.parquet") -> pl.DataFrame:
    """The rows of a file, of which parts of a few rows give the same, and its refusal too."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            whole = read_landed([(name, data)], CONTRACT.columns)
        except Refused as error:
            if data:
                with pytest.raises(type(error)) as caught:
                    read_landed_in_parts((name, data), CONTRACT.columns, PIECE_BYTES, Path(folder))
                assert str(caught.value).startswith(f"{name}: ")
            raise
        made = read_landed_in_parts((name, data), CONTRACT.columns, PIECE_BYTES, Path(folder))
        assert made.parts is not None
        assert len(made.parts.files) > 1 or whole.rows <= PIECE_ROWS
        assert_frame_equal(pl.concat(list(made.parts.frames())), whole.table)
        assert {**made.metadata, "computed": ""} == {**whole.metadata, "computed": ""}
    return whole.table


def refusal(data: bytes, name: str = f"landing/sales/{DAY}.parquet") -> str:
    with pytest.raises(Refused) as caught:
        landed(data, name)
    assert str(caught.value).startswith(f"{name}: ")
    return str(caught.value)


# Files that can be read ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "suffix"),
    [
        (parquet(), "parquet"),
        (parquet(compression="snappy", row_group_size=3), "parquet"),
        (csv(), "csv"),
        (gzip.compress(csv()), "csv.gz"),
        (zstd(csv()), "csv.zst"),
        (b"\xef\xbb\xbf" + csv().replace(b"\n", b"\r\n"), "csv"),
    ],
    ids=["parquet", "snappy", "csv", "gzip", "zstd", "byte order mark"],
)
def test_the_same_rows_come_from_every_format(data: bytes, suffix: str) -> None:
    expected = ROWS
    if data.startswith(b"\xef"):
        expected = ROWS.with_columns(pl.col("note").str.replace("\n", "\r\n", literal=True))
    assert_frame_equal(landed(data, f"landing/sales/{DAY}.{suffix}"), expected)


def test_columns_come_in_the_order_of_the_contract() -> None:
    assert_frame_equal(landed(parquet(ROWS.select(reversed(ROWS.columns)))), ROWS)


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC"])
def test_times_are_brought_to_the_unit_of_the_contract(unit: Any, zone: str | None) -> None:
    whole = ROWS.with_columns(pl.col("at").dt.truncate("1s"))
    found = landed(
        parquet(whole.with_columns(pl.col("at").dt.cast_time_unit(unit).dt.replace_time_zone(zone)))
    )
    assert_frame_equal(found, whole)


@pytest.mark.parametrize(
    "text",
    [
        "2018-04-01 12:30:00",
        "2018-04-01T12:30:00",
        "2018-04-01T12:30:00Z",
        "2018-04-01 12:30:00.000000+00:00",
    ],
)
def test_times_in_csv_are_iso_8601_in_utc(text: str) -> None:
    data = csv(ROWS.with_columns(at=pl.lit(text)))
    assert landed(data, "f.csv")["at"].to_list() == [datetime(2018, 4, 1, 12, 30)] * 20


def test_empty_cells_of_csv_are_nulls() -> None:
    data = b"id,at,due,paid,amount,note\n1,,,,,\n"
    assert landed(data, "f.csv").rows() == [(1, None, None, None, None, None)]


@pytest.mark.parametrize("at", [datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59)])
def test_days_that_stand_for_never_are_read(at: datetime) -> None:
    table = ROWS.with_columns(at=pl.lit(at, pl.Datetime("us")))
    assert landed(parquet(table))["at"][0] == at


def test_the_metadata_names_the_file() -> None:
    assert read_landed([("f.parquet", parquet())], CONTRACT.columns).metadata == {
        "file": "f.parquet",
        "file_bytes": len(parquet()),
    }


# Files that cannot be read ---------------------------------------------------------------------------------


def test_an_empty_file_is_refused() -> None:
    assert "the file is empty (0 bytes); deliver it again" in refusal(b"")


def test_text_that_is_named_parquet_is_refused() -> None:
    assert "cannot be read as a Parquet file" in refusal(csv())


def test_parquet_that_is_named_csv_is_refused() -> None:
    assert refusal(parquet(), "f.csv").startswith("f.csv: ")


def test_a_truncated_file_is_refused() -> None:
    assert "cannot be read as a Parquet file" in refusal(parquet()[:-100])
    refusal(gzip.compress(csv())[:-40], "f.csv.gz")


def test_two_files_for_a_partition_are_refused_by_name() -> None:
    with pytest.raises(
        Refused, match=r"a/1.csv and a/1.parquet are for the same partition; leave one of them"
    ):
        read_landed([("a/1.csv", csv()), ("a/1.parquet", parquet())], CONTRACT.columns)


def test_a_file_with_other_columns_is_refused_by_column() -> None:
    assert "column amount is missing; column Amount is not in the contract" in refusal(
        parquet(ROWS.rename({"amount": "Amount"}))
    )
    assert "column note is missing" in refusal(csv(ROWS.drop("note")), "f.csv")
    assert "column amount is String, expected Float64" in refusal(parquet(ROWS.cast({"amount": pl.String})))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("id", "abc", "'id'.*abc"),
        ("id", "5.0", "'id'.*5.0"),
        ("amount", "1,5", "'amount'.*1,5"),
        ("paid", "yes", "column paid: `yes` is not true or false"),
        ("due", "01.05.2018", "column due: `01.05.2018` is not a day such as 2018-04-01"),
        ("due", "2018-02-30", "'due'.*2018-02-30"),
        (
            "at",
            "04/05/2018 12:00",
            "column at: `04/05/2018 12:00` is not a UTC time in us such as 2018-04-01 12:30:00",
        ),
        ("at", "2018-04-01 12:30:00+02:00", r"column at: `2018-04-01 12:30:00\+02:00` is not a UTC time"),
        ("at", "2018-04-01 12:30:00.1234567", "is not a UTC time in us"),
        ("at", "2018-04-31 12:30:00", "'at'.*2018-04-31"),
    ],
)
def test_a_value_of_csv_that_is_no_value_of_its_type_is_named(column: str, value: str, message: str) -> None:
    text = ROWS.with_columns(
        pl.when(pl.col("id") == 3).then(pl.lit(value)).otherwise(pl.col(column).cast(pl.String)).alias(column)
    )
    if column == "at":
        text = ROWS.with_columns(at=pl.lit(value))
    with pytest.raises(
        Refused, match=rf"^f.csv: cannot be read as a CSV file of the contract's types: .*{message}"
    ):
        landed(csv(text), "f.csv")


@pytest.mark.parametrize(
    ("at", "message"),
    [
        (
            pl.lit(datetime(2018, 4, 1)).cast(pl.Datetime("ns")) + pl.duration(nanoseconds=1),
            "column at has times finer than us",
        ),
        (
            pl.lit(2**62).cast(pl.Datetime("ms")),
            "outside of the years 1 to 9999 \\(4611686018427387904 ms since",
        ),
        (pl.lit(2**62).cast(pl.Datetime("us")), "column at has a time outside of the years 1 to 9999"),
        (
            pl.lit(-(2**62)).cast(pl.Datetime("us")),
            r"outside of the years 1 to 9999 \(-4611686018427387904 us",
        ),
    ],
)
def test_times_that_would_change_or_cannot_be_told_are_refused(at: pl.Expr, message: str) -> None:
    with pytest.raises(Refused, match=message):
        landed(parquet(ROWS.with_columns(at=at)))


def test_days_that_cannot_be_told_are_refused() -> None:
    with pytest.raises(Refused, match="column due has a time outside of the years 1 to 9999"):
        landed(parquet(ROWS.with_columns(due=pl.lit(2**30).cast(pl.Date))))


def test_whatever_happened_to_a_file_it_is_read_or_refused() -> None:
    """Damaged Parquet makes polars raise, or panic, which is no ordinary exception."""
    whole, draw = parquet(), random.Random(3)
    for _ in range(300):
        data = bytearray(whole)
        match draw.choice(["flip", "cut", "zero", "footer"]):
            case "flip":
                data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
            case "cut":
                del data[draw.randrange(len(data)) :]
            case "zero":
                start = draw.randrange(len(data))
                data[start : start + 8] = bytes(8)
            case "footer":
                data[-draw.randrange(1, 400)] = draw.randrange(256)
        try:
            assert landed(bytes(data)).schema == CONTRACT.schema
        except Refused:
            continue


def test_a_panic_of_polars_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def panic(_: object) -> pl.DataFrame:
        raise pl.exceptions.PanicException("assertion failed")

    monkeypatch.setattr(pl, "read_parquet", panic)
    monkeypatch.setattr(pl, "scan_parquet", panic)
    assert "cannot be read as a Parquet file: assertion failed" in refusal(parquet())


# Assets ----------------------------------------------------------------------------------------------------


class Landed:
    """A batch over files or tables in memory."""

    asset, memory = "sales", Memory()

    def __init__(self, files: Mapping[str, Any], suffix: str = "parquet") -> None:
        self.files, self.suffix = files, suffix
        self.keys: Sequence[str] = list(files)

    def landed(self, key: str) -> list[tuple[str, bytes]]:
        return [(f"{key}.{self.suffix}", self.files[key])]

    def inputs(self, read: str, key: str) -> Mapping[str, pl.DataFrame]:
        return {key: self.files[key]}

    def origin(self, read: str, key: str) -> Sequence[str]:
        return [f"{key}.parquet"]

    def released(self, key: str) -> frozenset[str]:
        return frozenset()


RAW = raw_table("raw/sales", CONTRACT, source="sales")
VALID = validated_table("validated/sales", RAW, CONTRACT)


def computed(asset: Any, files: Mapping[str, Any]) -> dict[str, Produced | Exception]:
    made: Iterator[tuple[str, Produced | Exception]] = asset.compute(Landed(files))
    return dict(made)


def test_a_broken_file_is_told_for_its_day_and_the_other_days_are_read() -> None:
    made = computed(RAW, {DAY: parquet(), "2018-04-02": b"not a table", "2018-04-03": parquet()})
    assert list(made) == [DAY, "2018-04-02", "2018-04-03"]
    assert isinstance(made["2018-04-02"], Refused)
    assert all(isinstance(made[key], Produced) for key in (DAY, "2018-04-03"))


def test_valid_and_quarantined_rows_are_produced_side_by_side() -> None:
    table = pl.concat([ROWS, ROWS[:1]])
    (made,) = computed(VALID, {DAY: table}).values()
    assert isinstance(made, Produced)
    assert_frame_equal(made.table, ROWS.sort("at"))
    assert made.quarantined is not None
    assert made.quarantined["rule"].to_list() == ["repeated_row"]
    (bad,) = made.quarantined.to_dicts()
    assert (bad["row_number"], bad["file"]) == (20, f"{DAY}.parquet")
    assert bad["contract_version"] == version_of(CONTRACT)
    counts = {"landed_rows": 21, "valid_rows": 20, "quarantined_rows": 1}
    shown = {name: bad[name] for name in ("row_number", "rule", "column", "value", "reason")}
    assert made.metadata == {**counts, "contract_version": version_of(CONTRACT), "quarantine": [shown]}


def test_days_that_fail_their_gate_do_not_hinder_others() -> None:
    made = computed(VALID, {DAY: ROWS, "2018-04-02": ROWS})
    assert isinstance(made[DAY], Produced)
    assert isinstance(made["2018-04-02"], Refused)
    assert "outside_day (20)" in str(made["2018-04-02"])


def test_the_value_depends_on_the_rows_alone() -> None:
    one, other = (
        validate(landed(data, name), CONTRACT, DAY)
        for data, name in ((parquet(), "f.parquet"), (csv(), "f.csv"))
    )
    assert_frame_equal(one.table, other.table)


def test_assets_say_where_they_come_from() -> None:
    assert (RAW.source, RAW.grain, RAW.group) == ("sales", Grain.DAY, "raw")
    assert VALID.reads["landed"].asset == "raw/sales"
    assert VALID.parameters["most_bad_share"] == CONTRACT.most_bad_share
    assert list(VALID.columns) == ROWS.columns


@pytest.mark.parametrize("suffix", ["csv", "csv.gz"])
def test_a_csv_file_whose_rows_do_not_fit_is_read_in_parts(suffix: str, tmp_path: Path) -> None:
    rows = pl.concat([ROWS] * 30_000).with_columns(id=pl.int_range(pl.len()))
    text = csv(rows)
    batch = Landed({DAY: gzip.compress(text, 1) if suffix == "csv.gz" else text}, suffix)
    # There is room for the text, and for what reading ahead takes, and not for all rows.
    batch.memory = Memory(360_000_000, tmp_path / "spill")
    for _, made in RAW.compute(batch):
        assert isinstance(made, Produced), made
        assert made.parts is not None
        assert str(made.metadata["computed"]).endswith("parts")
        assert version_of_parts(made.parts) == data_version(rows)


def test_a_csv_file_that_does_not_fit_as_it_lies_there_is_refused_by_name(tmp_path: Path) -> None:
    batch = Landed({DAY: csv(pl.concat([ROWS] * 15_000))}, "csv")
    batch.memory = Memory(100_000_000, tmp_path / "spill")
    ((_, made),) = RAW.compute(batch)
    assert isinstance(made, MemoryLimitError)
    assert f"sales {DAY} needs about" in str(made)
    assert "as a landed file lies in memory" in str(made)
