"""The lake: who commits first wins, damage is noticed and healed, the index is a cache."""

import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from my_platform.errors import DamagedObject, HomeError
from my_platform.incremental.content import data_version
from my_platform.incremental.declare import Grain, ordinal
from my_platform.storage.lake import ABSENT, Lake, file_in, files_table, json_in, partition_key
from my_platform.storage.objects import FolderStore, open_store
from my_platform.storage.trace_index import TraceIndex

DAY = "2018-04-01"
F1, F2, F3 = ("1" * 32, "2" * 32, "3" * 32)
ONE = pl.DataFrame({"x": [1, 2, 3], "y": ["a", None, "c"]})
OTHER = pl.DataFrame({"x": [4], "y": ["d"]})
BAD = pl.DataFrame({"row_number": [7], "rule": ["ge"], "reason": ["negative"]})


@pytest.fixture
def lake(location: str, tmp_path: Path) -> Lake:
    return Lake(open_store(location), FolderStore(tmp_path / "quarantine"), TraceIndex(tmp_path / "i.sqlite"))


def commit(lake: Lake, table: pl.DataFrame = ONE, fingerprint: str = F1, **more: Any) -> Any:
    given: dict[str, Any] = {"asset": "a/b", "partition": DAY, "code": "c1", "record": {}, **more}
    done = lake.commit(
        given["asset"], given["partition"], fingerprint, table, given["record"],
        code_version=given["code"], seconds=0.5, quarantined=given.get("quarantined"),
    )  # fmt: skip
    if given.get("indexed", True):
        lake.index.add([done.trace])
    return done


def damage(lake: Lake, fingerprint: str = F1, partition: str = DAY, *, position: int = 100) -> None:
    path = lake.path("a/b", partition, fingerprint)
    data = bytearray(lake.store.read(path))
    data[position] ^= 4
    lake.store.delete(path)
    lake.store.create(path, bytes(data))


# Commit ----------------------------------------------------------------------------------------------------


def test_a_committed_table_can_be_read_by_its_data_version(lake: Lake) -> None:
    done = commit(lake)
    assert done.created
    assert (done.trace.data_version, done.trace.rows, done.trace.seconds) == (data_version(ONE), 3, 0.5)
    assert_frame_equal(lake.read("a/b", DAY, data_version(ONE)), ONE)
    assert lake.read("a/b", DAY, data_version(ONE), ["y"]).columns == ["y"]
    assert lake.store.exists(f"a/b/{DAY}/{F1}.parquet")


@pytest.mark.parametrize(
    "tables",
    [[ONE, OTHER, ONE.clear()], [ONE, OTHER.with_columns(z=1)], [ONE, OTHER.cast({"x": pl.Float64})], [OTHER], []],
    ids=["alike", "another column", "another type", "one", "none"],
)  # fmt: skip
def test_partitions_that_are_read_together_are_those_that_are_read_alone(
    lake: Lake, tables: list[pl.DataFrame]
) -> None:
    days = [f"2018-04-{number:02}" for number, _ in enumerate(tables, 1)]
    for day, table in zip(days, tables, strict=True):
        commit(lake, table, partition=day)
    versions = {day: data_version(table) for day, table in zip(reversed(days), reversed(tables), strict=True)}
    for columns in (None, ["y"]):
        found = lake.read_all("a/b", versions, columns)
        assert list(found) == list(versions)
        for day, version in versions.items():
            assert_frame_equal(found[day], lake.read("a/b", day, version, columns))


def test_damage_to_one_of_several_is_noticed_and_named(lake: Lake) -> None:
    versions = {}
    for day, table in (("2018-04-01", ONE), ("2018-04-02", OTHER)):
        commit(lake, table, partition=day)
        versions[day] = data_version(table)
    damage(lake, partition="2018-04-02")
    with pytest.raises(DamagedObject, match=rf"a/b/2018-04-02/{F1}.parquet: its bytes are not"):
        lake.read_all("a/b", versions)
    assert not lake.store.exists(lake.path("a/b", "2018-04-02", F1))


def test_the_record_says_how_a_value_was_made(lake: Lake) -> None:
    commit(lake, record={"inputs": {"raw": {DAY: "0" * 32}}, "run_id": "r"})
    record = lake.record("a/b", DAY, data_version(ONE))
    assert record is not None
    expected = {
        "asset": "a/b", "partition": DAY, "fingerprint": F1, "data_version": data_version(ONE), "code_version": "c1",
        "rows": 3, "run_id": "r", "inputs": {"raw": {DAY: "0" * 32}},
    }  # fmt: skip
    assert {name: record[name] for name in expected} == expected


def test_who_comes_second_adopts_what_the_first_stored(lake: Lake) -> None:
    first = commit(lake)
    second = commit(lake, OTHER, indexed=False)
    assert not second.created
    assert replace(second.trace, seconds=0.5) == replace(first.trace, seconds=0.5)
    assert_frame_equal(lake.read("a/b", DAY, second.trace.data_version), ONE)


def test_of_many_at_once_one_stores_and_all_agree(lake: Lake) -> None:
    tables = [pl.DataFrame({"x": [number] * 1000}) for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda table: commit(lake, table, indexed=False), tables))
    assert [d.created for d in done].count(True) == 1
    assert len({d.trace.data_version for d in done}) == 1


def test_a_lost_reply_is_not_taken_for_a_conflict(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    create = lake.store.create

    def reply_lost(path: str, data: bytes) -> bool:
        """The put went through, its reply did not; the client's second try finds the name taken."""
        assert create(path, data)
        return create(path, data)

    monkeypatch.setattr(lake.store, "create", reply_lost)
    done = commit(lake)
    assert done.created
    assert done.trace.data_version == data_version(ONE)


def test_a_commit_that_broke_off_after_the_object_was_stored_is_found_again(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = lake.store.create

    def connection_lost(path: str, data: bytes) -> bool:
        create(path, data)
        raise ConnectionError("lost")

    monkeypatch.setattr(lake.store, "create", connection_lost)
    with pytest.raises(ConnectionError):
        commit(lake)
    monkeypatch.undo()
    found = lake.adopt("a/b", DAY, F1)
    assert found is not None
    assert_frame_equal(lake.read("a/b", DAY, found.data_version), ONE)


def test_an_asset_without_partitions_has_a_place_too(lake: Lake) -> None:
    commit(lake, partition="")
    assert_frame_equal(lake.read("a/b", "", data_version(ONE)), ONE)
    assert lake.store.exists(f"a/b/all/{F1}.parquet")


# Adopt -----------------------------------------------------------------------------------------------------


def test_an_object_that_the_index_does_not_know_is_adopted(lake: Lake) -> None:
    done = commit(lake, indexed=False)
    assert lake.index.is_empty()
    assert lake.adopt("a/b", DAY, F1) == done.trace
    assert lake.index.find("a/b", DAY, done.trace.data_version) == [F1]


def test_nothing_is_adopted_where_there_is_no_object(lake: Lake) -> None:
    assert lake.adopt("a/b", DAY, F1) is None


def test_a_damaged_object_is_taken_out_rather_than_adopted(lake: Lake) -> None:
    commit(lake, indexed=False)
    damage(lake)
    assert lake.adopt("a/b", DAY, F1) is None
    assert not lake.store.exists(lake.path("a/b", DAY, F1))
    assert commit(lake).created


def test_an_object_that_was_copied_to_another_name_is_not_adopted(lake: Lake) -> None:
    commit(lake, indexed=False)
    lake.store.create(lake.path("a/b", "2018-04-02", F1), lake.store.read(lake.path("a/b", DAY, F1)))
    assert lake.adopt("a/b", "2018-04-02", F1) is None
    assert lake.adopt("a/b", DAY, F1) is not None


# Damage ----------------------------------------------------------------------------------------------------


def test_damage_is_noticed_before_a_value_is_used_and_taken_out(lake: Lake) -> None:
    commit(lake)
    damage(lake)
    with pytest.raises(DamagedObject, match=rf"{lake.store.root}/a/b/{DAY}/{F1}.parquet: its bytes are not"):
        lake.read("a/b", DAY, data_version(ONE))
    assert not lake.store.exists(lake.path("a/b", DAY, F1))
    assert lake.index.is_empty()


def test_another_object_of_the_same_version_stands_in(lake: Lake, tmp_path: Path) -> None:
    commit(lake, fingerprint=F1)
    commit(lake, fingerprint=F2)
    damage(lake, F1)
    assert_frame_equal(lake.read("a/b", DAY, data_version(ONE)), ONE)
    assert_frame_equal(pl.read_parquet(lake.file("a/b", DAY, data_version(ONE), tmp_path)), ONE)
    assert lake.index.find("a/b", DAY, data_version(ONE)) == [F2]


def committed_days(lake: Lake, number: int) -> dict[str, str]:
    """Days with a row each, and their data versions."""
    tables = {f"2018-04-{n:02}": pl.DataFrame({"x": [n]}) for n in range(1, number + 1)}
    for partition, table in tables.items():
        commit(lake, table, partition=partition)
    return {partition: data_version(table) for partition, table in tables.items()}


def test_many_partitions_are_read_at_a_time_and_come_in_order(lake: Lake, tmp_path: Path) -> None:
    versions = dict(reversed(committed_days(lake, 20).items()))
    traffic = getattr(lake.store, "traffic", None)
    before = traffic.so_far if traffic else None
    found = lake.read_all("a/b", versions)
    assert [(day, table["x"].item()) for day, table in found.items()] == [(d, int(d[-2:])) for d in versions]
    if traffic:
        # Each is asked for once.
        assert (traffic.so_far - before).as_json()["requests"] == 20
    assert lake.reads == 20
    files = dict(lake.files("a/b", versions, tmp_path / "copies"))
    assert list(files) == list(versions)
    assert [pl.read_parquet(file)["x"].item() for file in files.values()] == [int(d[-2:]) for d in versions]


def test_the_damaged_one_of_many_is_named_and_another_object_stands_in(lake: Lake) -> None:
    versions = committed_days(lake, 12)
    day = "2018-04-07"
    damage(lake, partition=day)
    with pytest.raises(DamagedObject, match=rf"{lake.store.root}/a/b/{day}/{F1}.parquet: its bytes are not"):
        lake.read_all("a/b", versions)
    for fingerprint in (F1, F2):
        commit(lake, pl.DataFrame({"x": [7]}), fingerprint, partition=day)
    lake.store.delete(lake.path("a/b", day, F1))
    assert lake.read_all("a/b", versions)[day]["x"].item() == 7
    assert lake.index.find("a/b", day, versions[day]) == [F2]


def test_a_file_of_a_bucket_is_a_copy(lake: Lake, tmp_path: Path) -> None:
    commit(lake)
    stored = f"{lake.store.root}/a/b/{DAY}/{F1}.parquet"
    in_bucket = "://" in stored

    file = lake.file("a/b", DAY, data_version(ONE), tmp_path / "copies")

    assert (str(file) == stored, file.is_relative_to(tmp_path / "copies")) == (not in_bucket, in_bucket)


def test_a_missing_object_and_an_unknown_version_are_named(lake: Lake) -> None:
    commit(lake)
    lake.store.delete(lake.path("a/b", DAY, F1))
    with pytest.raises(DamagedObject, match=rf"{F1}.parquet: the object is not there"):
        lake.read("a/b", DAY, data_version(ONE))
    with pytest.raises(DamagedObject, match=rf"a/b/{DAY}: no object holds data version"):
        lake.read("a/b", DAY, data_version(ONE))
    assert lake.record("a/b", DAY, data_version(ONE)) is None


def test_verify_names_what_is_damaged_and_takes_it_out(lake: Lake) -> None:
    days = ["2018-04-01", "2018-04-02", "2018-04-03"]
    for day in days:
        commit(lake, partition=day)
    damage(lake, partition=days[1])
    lake.store.delete(lake.path("a/b", days[2], F1))
    heads = {"a/b": {**dict.fromkeys(days, data_version(ONE)), "2018-04-04": ABSENT}}
    found = lake.verify(heads)
    assert [next(day for day in days if day in text) for text in found] == days[1:]
    assert [trace.partition for trace in lake.index.traces(["a/b"])] == days[:1]


# The past --------------------------------------------------------------------------------------------------


def past(lake: Lake, heads: Mapping[str, str], code: str = "c1") -> Any:
    return lake.past("a/b", Grain.DAY, code, heads)


def test_the_past_has_heads_traces_and_what_the_present_code_made(lake: Lake) -> None:
    commit(lake, ONE, F1, code="c0")
    commit(lake, OTHER, F2, code="c1", partition="2018-04-02")
    found = past(lake, {DAY: data_version(ONE), "2018-04-02": data_version(OTHER)})
    one, other = bytes.fromhex(data_version(ONE)), bytes.fromhex(data_version(OTHER))
    assert found.heads == {ordinal(DAY): one, ordinal("2018-04-02"): other}
    assert found.traces == {bytes.fromhex(F1): one, bytes.fromhex(F2): other}
    assert found.coded == {ordinal("2018-04-02")}


@pytest.mark.parametrize("version", [ABSENT, "0" * 32, "typed by hand", "g" * 32, ""])
def test_an_event_that_names_no_stored_object_is_no_head(lake: Lake, version: str) -> None:
    commit(lake)
    assert past(lake, {DAY: version}).heads == {}


def test_a_head_is_found_in_the_store_when_the_index_lags_behind(lake: Lake) -> None:
    commit(lake, indexed=False)
    found = past(lake, {DAY: data_version(ONE)})
    assert found.heads == {ordinal(DAY): bytes.fromhex(data_version(ONE))}
    assert found.traces == {bytes.fromhex(F1): bytes.fromhex(data_version(ONE))}


def test_a_refusal_is_told_with_the_inputs_that_were_accepted_before_under_older_code(lake: Lake) -> None:
    commit(lake, OTHER, F3, asset="raw")
    commit(lake, ONE, F1, code="c0", record={"inputs": {"raw": {DAY: data_version(OTHER)}}})
    lake.index.refuse("a/b", DAY, F2, "too few rows")
    lake.index.refuse("elsewhere", DAY, F3, "not ours")
    found = past(lake, {DAY: data_version(ONE)})
    assert found.refusals == {bytes.fromhex(F2): "too few rows"}
    assert found.accepted == {ordinal(DAY): {("raw", ordinal(DAY)): bytes.fromhex(data_version(OTHER))}}
    assert found.alike == {ordinal(DAY): []}
    assert past(lake, {DAY: data_version(ONE)}, code="c0").accepted == {}


class Told:
    """Events of heads: which fingerprint made the present one, and the versions that a partition has had."""

    def __init__(self, made_by: str, *versions: str) -> None:
        self._made_by, self._versions = made_by, versions

    def made_by(self, asset: str, partition: str) -> str:
        return self._made_by

    def history(self, asset: str, partition: str) -> list[tuple[int, str]]:
        return list(enumerate(self._versions)) if asset == "raw" else []


V_ONE, V_OTHER = data_version(ONE), data_version(OTHER)


@pytest.mark.parametrize(
    ("versions", "last"),
    [
        ((V_ONE, V_OTHER, "f" * 32), V_OTHER),
        ((V_OTHER, V_ONE, "f" * 32), V_ONE),
        # It came back, of which no event of the head tells.
        ((V_OTHER, V_ONE, V_OTHER, ABSENT, "f" * 32), V_OTHER),
        ((), V_ONE),
    ],
    ids=["second", "first", "first again", "untold"],
)
def test_of_inputs_that_gave_the_same_version_those_that_were_current_last_were_accepted_last(
    lake: Lake, versions: tuple[str, ...], last: str
) -> None:
    commit(lake, OTHER, F3, asset="raw")
    commit(lake, ONE, F1, asset="raw")
    commit(lake, ONE, F1, code="c0", record={"inputs": {"raw": {DAY: V_OTHER}}})
    commit(lake, ONE, F2, code="c0", record={"inputs": {"raw": {DAY: V_ONE}}})
    lake.index.refuse("a/b", DAY, F3, "too few rows")
    found = lake.past("a/b", Grain.DAY, "c1", {DAY: V_ONE}, Told(F2, *versions))
    raw, other = ("raw", ordinal(DAY)), V_ONE if last == V_OTHER else V_OTHER
    assert found.accepted == {ordinal(DAY): {raw: bytes.fromhex(last)}}
    assert found.alike == {ordinal(DAY): [{raw: bytes.fromhex(other)}]}


# The index -------------------------------------------------------------------------------------------------


def test_the_index_is_rebuilt_from_the_objects(lake: Lake, tmp_path: Path) -> None:
    traces = {
        commit(lake, table, f, code=c).trace
        for table, f, c in [(ONE, F1, "c1"), (OTHER, F2, "c2"), (ONE, F3, "c2")]
    }
    damage(lake, F3)
    lake.index = TraceIndex(tmp_path / "new.sqlite")
    assert lake.rebuild_index() == 2
    assert set(lake.index.traces(["a/b"])) == {t for t in traces if t.fingerprint != F3}
    assert not lake.store.exists(lake.path("a/b", DAY, F3))


def test_traces_of_another_lake_are_forgotten(lake: Lake, tmp_path: Path) -> None:
    path = tmp_path / "shared.sqlite"
    lake.index = TraceIndex(path, "s3://bucket/one")
    commit(lake)
    assert not TraceIndex(path, "s3://bucket/one").is_empty()
    assert TraceIndex(path, "s3://bucket/two").is_empty()
    lake.index = TraceIndex(path, "s3://bucket/one")
    assert lake.index.is_empty()
    assert lake.rebuild_index() == 1
    assert TraceIndex(path).is_empty()


ADD_MANY = """
import sys
from pathlib import Path
from my_platform.storage.trace_index import Trace, TraceIndex
index = TraceIndex(Path(sys.argv[1]))
for number in range(50):
    index.add([Trace("a", sys.argv[2], f"{number:032x}", "0" * 32, "c", 1, 1, 0.0)])
"""


def test_several_processes_write_one_index(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "index.sqlite"
    days = ["2018-04-01", "2018-04-02", "2018-04-03", "2018-04-04"]
    writers = [subprocess.Popen([sys.executable, "-c", ADD_MANY, str(path), day]) for day in days]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    assert len(list(TraceIndex(path).traces(["a"]))) == 200


def test_an_index_that_is_no_database_any_more_starts_anew(lake: Lake, tmp_path: Path) -> None:
    commit(lake)
    (tmp_path / "broken.sqlite").write_bytes(b"not a database at all" * 100)
    lake.index = TraceIndex(tmp_path / "broken.sqlite")
    assert lake.index.is_empty()
    assert lake.rebuild_index() == 1


def test_an_index_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "a file").write_text("")
    with pytest.raises(HomeError, match=rf"the index {tmp_path}/a file/index.sqlite cannot be used.*--home"):
        TraceIndex(tmp_path / "a file" / "index.sqlite")


# Quarantine ------------------------------------------------------------------------------------------------


def test_quarantined_rows_lie_beside_the_value(lake: Lake) -> None:
    commit(lake, quarantined=BAD)
    rows = lake.quarantined("a/b", DAY, data_version(ONE))
    assert rows is not None
    assert_frame_equal(rows, BAD)


@pytest.mark.parametrize("none", [None, BAD.clear()])
def test_no_quarantined_rows_leave_no_object(lake: Lake, none: pl.DataFrame | None) -> None:
    commit(lake, quarantined=none)
    assert lake.quarantined("a/b", DAY, data_version(ONE)) is None
    assert list(lake.quarantine.list("")) == []


def test_damaged_quarantined_rows_are_made_again_with_the_value(lake: Lake) -> None:
    commit(lake, quarantined=BAD)
    path = Path(lake.quarantine.root) / lake.path("a/b", DAY, F1)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedObject, match=rf"quarantine/a/b/{DAY}/{F1}.parquet"):
        lake.quarantined("a/b", DAY, data_version(ONE))
    assert commit(lake, quarantined=BAD).created
    assert lake.quarantined("a/b", DAY, data_version(ONE)) is not None


# Files in tables -------------------------------------------------------------------------------------------


def test_files_are_kept_in_a_table() -> None:
    table = files_table({"b.json": '{"x": [1]}', "a.bin": b"\0\1"})
    assert table.get_column("name").to_list() == ["a.bin", "b.json"]
    assert file_in(table, "a.bin") == b"\0\1"
    assert json_in(table, "b.json") == {"x": [1]}


def test_partition_keys_are_days_and_empty_for_what_has_no_partitions() -> None:
    assert partition_key(Grain.WEEK, ordinal(DAY)) == DAY
    assert partition_key(Grain.ONCE, 0) == ""


# Several machines ------------------------------------------------------------------------------------------


def test_what_another_machine_has_computed_anew_is_not_taken_for_what_it_was(
    lake: Lake, location: str, tmp_path: Path
) -> None:
    """Of a function that is not deterministic, whose value was lost in between."""
    if "://" not in location:
        pytest.skip("several machines share a bucket and no folder")
    another = Lake(open_store(location), lake.quarantine, TraceIndex(tmp_path / "another.sqlite"))
    commit(lake)
    adopted = another.adopt("a/b", DAY, F1)
    assert adopted is not None
    assert adopted.data_version == data_version(ONE)
    lake.discard("a/b", DAY, F1)
    commit(lake, OTHER)
    with pytest.raises(DamagedObject, match="no object holds data version"):
        another.read("a/b", DAY, data_version(ONE))
    # It is whole, and known now by what it says.
    assert_frame_equal(another.read("a/b", DAY, data_version(OTHER)), OTHER)
    assert_frame_equal(lake.read("a/b", DAY, data_version(OTHER)), OTHER)
