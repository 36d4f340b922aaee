"""What lies in quarantine, and what people decide about it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import polars as pl

from my_platform.errors import PlatformError
from my_platform.incremental.declare import Grain
from my_platform.incremental.planner import Action
from my_platform.operations.outcome import Heads
from my_platform.operations.platform import Workspace, check_key
from my_platform.operations.refresh import look_ahead
from my_platform.quality.contracts import ROW
from my_platform.quality.rows import row_digests
from my_platform.storage.decisions import DecidedRow, Decision, released
from my_platform.storage.lake import partition_key

KEPT_OUT = "kept out"
REFUSED = "refused"


@dataclass(frozen=True)
class Bad:
    """The bad rows of a partition.

    Attributes:
        state: ``kept out`` of the version that is current, or of a delivery that was ``refused`` as a whole.
    """

    asset: str
    partition: str
    state: str
    rows: pl.DataFrame

    def as_json(self) -> list[dict[str, Any]]:
        """The rows with their state; numbers that JSON does not know are written as text."""
        return [
            {
                name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
                for name, value in row.items()
            }
            for row in self.rows.with_columns(state=pl.lit(self.state)).iter_rows(named=True)
        ]


@dataclass(frozen=True)
class Word:
    """Why something is decided, by whom, and when in UTC."""

    reason: str
    by: str
    at: str

    @classmethod
    def given(cls, reason: str, by: str) -> "Word":
        """A word that is given now.

        Raises:
            PlatformError: there is no reason.
        """
        if not reason.strip():
            raise PlatformError('a decision needs its reason: --reason "the till in shop 7 was moved"')
        return cls(reason, by, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"))


@dataclass(frozen=True)
class Chosen:
    """Which rows of a quarantine are meant: by number, by rule, or all of them."""

    rows: tuple[int, ...] = ()
    rule: str | None = None
    all: bool = False

    def of(self, bad: pl.DataFrame, name: str) -> pl.DataFrame:
        """The chosen rows.

        Raises:
            PlatformError: nothing is chosen, or there are no such rows.
        """
        if sum((bool(self.rows), self.rule is not None, self.all)) != 1:
            raise PlatformError("say which rows: --rows 3,17, --rule RULE or --all")
        if self.all:
            return bad
        if self.rule is not None:
            found = bad.filter(pl.col("rule") == self.rule)
            if found.is_empty():
                there = ", ".join(bad["rule"].unique().sort())
                raise PlatformError(
                    f"no row of {name} broke {self.rule}; the rules that were broken are {there}"
                )
            return found
        missing = sorted(set(self.rows) - set(bad[ROW]))
        if missing:
            there = ", ".join(map(str, bad[ROW].head(20)))
            raise PlatformError(
                f"row {', '.join(map(str, missing))} of {name} is not in quarantine; there are the rows {there}"
                f"{' and more' if bad.height > 20 else ''}"
            )
        return bad.filter(pl.col(ROW).is_in(list(self.rows)))


def bad_rows(
    workspace: Workspace,
    heads: Heads,
    current: Mapping[str, Mapping[str, str]],
    asset: str | None = None,
    partition: str | None = None,
) -> Iterator[Bad]:
    """The rows in quarantine of what is current and of what was refused, by asset and partition.

    Args:
        current: data version by partition by asset.

    Raises:
        PlatformError: there is no such asset or partition.
    """
    if asset is not None:
        _check(workspace, asset, partition or None)
    lake = workspace.lake
    refused = {
        (
            entry.asset,
            partition_key(workspace.project.assets[entry.asset].grain, entry.key),
        ): entry.fingerprint
        for entry in look_ahead(workspace, heads).entries
        if entry.action is Action.REFUSED
    }
    made = {path.rpartition("/")[0] for path, _ in lake.quarantine.list("")}
    for name in sorted(workspace.project.assets):
        keys = {*current.get(name, {}), *(key for found, key in refused if found == name)}
        for key in sorted(keys):
            folder = lake.path(name, key, "").rpartition("/")[0]
            if (asset is not None and name != asset) or (partition is not None and key != partition):
                continue
            if folder not in made:
                continue
            fingerprint = refused.get((name, key))
            rows = lake.refused_rows(name, key, fingerprint) if fingerprint else None
            if rows is not None:
                yield Bad(name, key, REFUSED, rows)
                continue
            version = current.get(name, {}).get(key)
            rows = lake.quarantined(name, key, version, heads.made_by(name, key)) if version else None
            if rows is not None:
                yield Bad(name, key, KEPT_OUT, rows)


def release(workspace: Workspace, bad: Bad, chosen: Chosen, word: Word) -> dict[str, Any]:
    """Let rows of a quarantine in; the next refresh heals the partition and what reads it.

    Returns:
        The decision's file, and the numbers of the rows.

    Raises:
        PlatformError: the rows cannot be let in, or the decision cannot be written.
    """
    grain, columns = _decidable(workspace, bad.asset)
    name = f"{bad.asset} {bad.partition}".strip()
    rows = chosen.of(bad.rows, name)
    never = rows.filter(~pl.col("releasable"))
    if never.height:
        first = never.row(0, named=True)
        raise PlatformError(
            f"row {first[ROW]} of {name} cannot be let in: {first['reason']}. Readers count on it that rows are of "
            "their day, are there once and have no nulls where the contract allows none. Deliver a corrected file"
            + (", or choose other rows with --rows" if never.height < rows.height else "")
        )
    decided = [
        DecidedRow(digest, row[ROW], row["reason"])
        for digest, row in zip(row_digests(rows, columns), rows.iter_rows(named=True), strict=True)
    ]
    decision = Decision("release", word.reason, word.by, word.at, rows=tuple(decided))
    key = check_key(workspace.project.assets[bad.asset], bad.partition)
    path = workspace.decisions.add(bad.asset, key, grain, decision)
    return {"decision": path, "rows": rows[ROW].to_list()}


def undo(workspace: Workspace, asset: str, partition: str, word: Word) -> dict[str, Any]:
    """Take all releases of a partition back; the next refresh returns to what was there before.

    Raises:
        PlatformError: no row of the partition is released.
    """
    grain, _ = _decidable(workspace, asset)
    key = check_key(workspace.project.assets[asset], partition)
    decisions = workspace.decisions.about(asset, key, grain)
    standing = _standing(decisions)
    if not standing:
        raise PlatformError(f"no row of {asset} {partition} is released, so there is nothing to take back")
    rows = sorted({row.row_number for name in standing for row in decisions[name].rows})
    decision = Decision("undo", word.reason, word.by, word.at, undoes=tuple(standing))
    return {"decision": workspace.decisions.add(asset, key, grain, decision), "rows": rows}


def decided(workspace: Workspace, asset: str | None, partition: str | None) -> list[dict[str, Any]]:
    """All decisions, in the order in which they were made: who, when, why, which rows, and whether they stand."""
    found = []
    names = [asset] if asset is not None else sorted(workspace.project.decided)
    for name in names:
        grain, _ = _decidable(workspace, name)
        if partition is not None:
            check_key(workspace.project.assets[name], partition)
        for key in workspace.decisions.partitions(name, grain):
            if partition is not None and partition_key(grain, key) != partition:
                continue
            decisions = workspace.decisions.about(name, key, grain)
            standing = _standing(decisions)
            found += [
                {
                    "asset": name,
                    "partition": partition_key(grain, key),
                    "decision": decision.what,
                    "rows": [row.row_number for row in decision.rows],
                    "stands": number in standing,
                    "reason": decision.reason,
                    "by": decision.by,
                    "at": decision.at,
                }
                for number, decision in decisions.items()
            ]
    return sorted(found, key=lambda told: str(told["at"]))


def _standing(decisions: Mapping[str, Decision]) -> list[str]:
    """The ids of the releases that have not been taken back."""
    return [
        name for name in decisions if released({k: d for k, d in decisions.items() if k == name or d.undoes})
    ]


def _decidable(workspace: Workspace, asset: str) -> tuple[Grain, Sequence[str]]:
    """Grain and columns of an asset about whose rows people may decide."""
    _check(workspace, asset, None)
    if asset not in workspace.project.decided:
        raise PlatformError(
            f"{asset} takes no decisions about its rows; these do: {', '.join(sorted(workspace.project.decided))}"
        )
    return workspace.project.decided[asset], tuple(workspace.project.assets[asset].columns)


def _check(workspace: Workspace, asset: str, partition: str | None) -> None:
    if asset not in workspace.project.assets:
        raise PlatformError(f"{asset} is no asset; there are {', '.join(sorted(workspace.project.assets))}")
    if partition is not None:
        check_key(workspace.project.assets[asset], partition)
