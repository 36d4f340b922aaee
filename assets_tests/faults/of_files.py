"""Files that are broken, late, doubled, too large or no files at all."""

import io
import os
import shutil

import pyarrow as pa
import pyarrow.parquet as pq

from assets_tests.faults.registry import fault
from assets_tests.faults.scene import DAY, DAY_BEFORE, Scene
from assets_tests.faults.verdicts import Gap, Healed, Late, Refusal, Unusable, Waits

RAW, VALID = "raw/transactions", "validated/transactions"


@fault("empty file", Refusal(RAW, ("the file is empty (0 bytes)",)))
def empty(scene: Scene) -> None:
    scene.transactions.write_bytes(b"")


@fault("file without rows", Refusal(VALID, ("0 rows, where at least 1 are expected",)))
def no_rows(scene: Scene) -> None:
    scene.deliver(lambda t: t.clear())


@fault("truncated Parquet", Refusal(RAW, ("cannot be read as a Parquet file",)))
def truncated(scene: Scene) -> None:
    scene.transactions.write_bytes(scene.transactions.read_bytes()[:-200])


@fault("half-written file, its source still writing", Waits())
def half_written(scene: Scene) -> None:
    truncated(scene)


@fault("a flipped byte in a landed file", Refusal(RAW, ("cannot be read as a Parquet file",)))
def flipped_in_landing(scene: Scene) -> None:
    _flip(scene.transactions, -6)


@fault("a flipped byte in a stored value", Healed(VALID))
def flipped_in_storage(scene: Scene) -> None:
    (path,) = (scene.home / "lake" / VALID / scene.day).glob("*.parquet")
    _flip(path, path.stat().st_size // 2)


@fault("text instead of a table", Refusal(RAW, ("cannot be read as a Parquet file",)))
def text(scene: Scene) -> None:
    scene.transactions.write_text("<html>503 Service Unavailable</html>")


@fault("two files for one day", Refusal(RAW, (f"transactions/{DAY}.csv", "leave one of them in landing")))
def doubled(scene: Scene) -> None:
    scene.transactions.with_suffix(".csv").write_text("TRANSACTION_ID\n1\n")


@fault(
    "same file under another name",
    Refusal(VALID, ("outside_day in TX_DATETIME", f"{RAW} {DAY} has the same content as {RAW} {DAY_BEFORE}")),
)
def copied(scene: Scene) -> None:
    shutil.copy(scene.table("transactions", DAY_BEFORE), scene.transactions)


@fault("missing day", Gap())
def missing(scene: Scene) -> None:
    scene.transactions.unlink()


@fault("late file", Late("transactions"))
def late(scene: Scene) -> None:
    scene.transactions.rename(scene.home / "late.parquet")


@fault("late labels", Late("fraud_reports"))
def late_labels(scene: Scene) -> None:
    scene.table("fraud_reports").rename(scene.home / "late.parquet")


@fault(
    "Parquet bomb of 300 M rows",
    Refusal(RAW, ("it has 512,000,000 rows, where at most 50,000,000 are taken",)),
)
def bomb(scene: Scene) -> None:
    first, footer = io.BytesIO(), io.BytesIO()
    pq.write_table(pa.table({"TRANSACTION_ID": pa.repeat(pa.scalar(7), 1_000_000)}), first)
    metadata = pq.read_metadata(io.BytesIO(first.getvalue()))
    for _ in range(9):
        metadata.append_row_groups(metadata)
    metadata.write_metadata_file(footer)
    whole = first.getvalue()
    pages = whole[: -8 - int.from_bytes(whole[-8:-4], "little")]
    scene.transactions.write_bytes(pages + footer.getvalue()[4:])


@fault("file name with ../", Unusable((rf"transactions/x..\..\{DAY}.parquet is read by no table",)))
def leaving(scene: Scene) -> None:
    shutil.copy(scene.transactions, scene.transactions.with_name(f"x..\\..\\{DAY}.parquet"))


@fault("file name with a newline", Unusable((rf"transactions/{DAY}\n.parquet is read by no table",)))
def newline(scene: Scene) -> None:
    shutil.copy(scene.transactions, scene.transactions.with_name(f"{DAY}\n.parquet"))


@fault("endless file name", Unusable(("is read by no table", "nnnn.parquet")))
def endless(scene: Scene) -> None:
    shutil.copy(scene.transactions, scene.transactions.with_name("n" * 240 + ".parquet"))


@fault("symbolic link in landing", Refusal(RAW, ("is a symbolic link, expected a plain file",)))
def link(scene: Scene) -> None:
    scene.transactions.unlink()
    scene.transactions.symlink_to("/etc/passwd")


@fault("pipe in landing", Refusal(RAW, ("is a pipe, expected a plain file",)))
def pipe(scene: Scene) -> None:
    scene.transactions.unlink()
    os.mkfifo(scene.transactions)


@fault("folder named as a file", Refusal(RAW, ("is a folder, expected a plain file",)))
def folder(scene: Scene) -> None:
    scene.transactions.unlink()
    scene.transactions.mkdir()


@fault(
    "broken profile table",
    Refusal("raw/terminals", ("cannot be read as a Parquet file",), path="terminals.parquet", partition=""),
)
def profiles(scene: Scene) -> None:
    (scene.landing / "terminals.parquet").write_bytes(b"PAR1 and no more")


def _flip(path: os.PathLike[str], at: int) -> None:
    with open(path, "r+b") as file:
        data = bytearray(file.read())
        data[at] ^= 0x10
        file.seek(0)
        file.write(data)
