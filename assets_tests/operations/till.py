"""Orders with contracts of a test's own, refreshed in this process with heads in memory."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl

from assets_tests.operations.shop import FIRST, ORDERS
from my_platform.incremental.checks import CheckResult
from my_platform.incremental.declare import last, table
from my_platform.operations.platform import Project, Workspace
from my_platform.operations.quarantine import Bad, Chosen, Word, bad_rows, release, undo
from my_platform.operations.refresh import Order, Report, bring_up_to_date, refresh
from my_platform.quality.contracts import Contract
from my_platform.quality.tables import raw_table, validated_table
from my_platform.storage.lake import ABSENT, Lake
from my_platform.storage.landing import Landing
from my_platform.storage.objects import FolderStore
from my_platform.storage.places import LandingFolder, LandingPlace
from my_platform.storage.trace_index import TraceIndex

VALID, RAW = "validated/orders", "raw/orders"


@dataclass
class MemoryHeads:
    """Heads in memory, with the metadata of every event."""

    now: dict[str, dict[str, str]] = field(default_factory=dict)
    events: list[tuple[str, str, Mapping[str, Any]]] = field(default_factory=list)
    refused: list[tuple[str, str, Mapping[str, Any]]] = field(default_factory=list)
    judged: dict[tuple[str, str], Sequence[CheckResult]] = field(default_factory=dict)

    def read(self, assets: Sequence[str]) -> dict[str, dict[str, str]]:
        return {asset: dict(self.now.get(asset, {})) for asset in assets}

    def made_by(self, asset: str, partition: str) -> str | None:
        found = [m["fingerprint"] for a, p, m in self.events if (a, p) == (asset, partition)]
        return found[-1] if found else None

    def history(self, asset: str, partition: str) -> list[tuple[int, str]]:
        return []

    def emit(self, asset: str, partition: str, version: str, metadata: Mapping[str, Any]) -> None:
        self.now.setdefault(asset, {})[partition] = version
        self.events.append((asset, partition, metadata))

    def judge(self, asset: str, found: Mapping[str, Sequence[CheckResult]]) -> None:
        self.judged |= {(asset, partition): results for partition, results in found.items()}

    def withdraw(self, asset: str, partition: str) -> None:
        self.now[asset][partition] = ABSENT

    def refuse(self, asset: str, partition: str, metadata: Mapping[str, Any]) -> None:
        self.refused.append((asset, partition, metadata))

    @contextlib.contextmanager
    def commit_section(self) -> Iterator[None]:
        yield

    def metadata(self, asset: str, partition: str) -> Mapping[str, Any]:
        """The metadata of the latest event of a partition."""
        return next(m for a, p, m in reversed(self.events) if (a, p) == (asset, partition))


def day(number: int) -> str:
    return (FIRST + timedelta(days=number)).isoformat()


class Till:
    """A home with orders of one contract."""

    def __init__(
        self,
        folder: Path,
        contract: Contract = ORDERS,
        *,
        place: LandingPlace | None = None,
        heads: MemoryHeads | None = None,
        quiet_s: float = 0.0,
    ) -> None:
        self.folder = folder
        self.heads = heads or MemoryHeads()
        raw = raw_table(RAW, contract, source="orders")
        valid = validated_table(VALID, raw, contract)
        week = table("shop_week", reads={"orders": last(VALID, 7, at_least=1)})(shop_week)
        index = TraceIndex(folder / "index.sqlite")
        lake = Lake(FolderStore(folder / "lake"), FolderStore(folder / "quarantine"), index)
        landing = Landing(place or LandingFolder(folder / "landing"), index, quiet_s=quiet_s)
        self.workspace = Workspace(Project.of([raw, valid, week]), lake, landing)

    def with_contract(self, contract: Contract) -> "Till":
        """The same home after its contract was changed."""
        return Till(self.folder, contract, heads=self.heads)

    def file(self, number: int) -> Path:
        return self.folder / "landing" / "orders" / f"{day(number)}.csv"

    def land(self, number: int, *cents: int, shops: Sequence[int] = (), of_day: int | None = None) -> Path:
        """Land a day's orders, one for each amount, an hour apart."""
        first = 100 * number
        rows = [
            f"{first + i},{day(number if of_day is None else of_day)} {i:02}:00:00,{shops[i] if shops else i % 2},{amount}"
            for i, amount in enumerate(cents)
        ]
        path = self.file(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(["ORDER_ID,ORDERED_AT,SHOP_ID,CENTS", *rows, ""]))
        return path

    def refresh(self, **options: Any) -> Report:
        return refresh(self.workspace, self.heads, self._launch, **options)

    def computed(self) -> dict[str, list[str]]:
        """What a refresh computes; all else must be well."""
        report = self.refresh()
        assert report.problems == []
        return dict(report.outcome.computed)

    def versions(self) -> dict[str, dict[str, str]]:
        return {asset: dict(found) for asset, found in self.heads.now.items()}

    def rows(self, asset: str, number: int) -> pl.DataFrame:
        return self.workspace.lake.read(asset, day(number), self.heads.now[asset][day(number)])

    def bad(self, number: int) -> Bad:
        """The quarantine of a day."""
        (found,) = bad_rows(self.workspace, self.heads, self.heads.now, VALID, day(number))
        return found

    def release(self, number: int, *rows: int, reason: str = "seen the receipt") -> dict[str, Any]:
        return release(self.workspace, self.bad(number), Chosen(rows=rows), Word.given(reason, "ada"))

    def undo(self, number: int) -> dict[str, Any]:
        return undo(self.workspace, VALID, day(number), Word.given("was wrong", "bob"))

    def _launch(self, order: Order) -> None:
        order.outcome.add(bring_up_to_date(self.workspace, self.heads, order.allowed))


def shop_week(orders: pl.LazyFrame) -> pl.LazyFrame:
    return orders.group_by("SHOP_ID").agg(pl.len(), pl.col("CENTS").sum()).sort("SHOP_ID")
