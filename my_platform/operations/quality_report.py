"""How every partition of the checked tables stands, and the data-quality page that shows it."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from my_platform.errors import DamagedObject
from my_platform.incremental.checks import ERROR
from my_platform.incremental.declare import Asset, Grain
from my_platform.incremental.planner import Action
from my_platform.operations.check_results import stored_results
from my_platform.operations.missing import missing, told_missing
from my_platform.operations.outcome import Heads, Outcome
from my_platform.operations.platform import Project, Workspace
from my_platform.operations.refresh import Planned
from my_platform.quality.checks import PREFIX
from my_platform.quality.judging import Result
from my_platform.quality.page import MOST_DAYS, Rows, TableQuality, page_path, quality_page
from my_platform.quality.tables import CONTRACT, FRESHNESS, SCHEMA
from my_platform.storage.lake import ABSENT, partition_key
from my_platform.storage.objects import replace_file

Standing = dict[str, Mapping[str, Rows]]
"""Rows of checks by validated table and partition; their fields are those of ``quality.checks.COLUMNS``."""


@dataclass(frozen=True)
class Checked:
    """A table that is checked: its raw and its validated asset, the one with the results, and others that judge it."""

    raw: str
    validated: Asset
    results: Asset
    others: Sequence[Asset] = ()

    @property
    def checks(self) -> list[str]:
        """All checks of the table, from landing on."""
        landed = [SCHEMA] if self.validated.grain is Grain.ONCE else [FRESHNESS, SCHEMA]
        judging = (self.results, *self.others)
        return [*landed, CONTRACT, *(check.name for each in judging for check in each.own_checks)]

    @property
    def assets(self) -> list[str]:
        """The assets that have a say in how the table stands."""
        return [self.raw, self.validated.name, self.results.name, *(other.name for other in self.others)]


def checked_tables(project: Project) -> list[Checked]:
    """The checked tables of a project."""
    found = []
    for asset in project.assets.values():
        if asset.name.startswith(PREFIX):
            validated = project.assets[asset.own_checks[0].about]
            others = tuple(
                other
                for other in project.assets.values()
                if other is not asset and any(c.about == validated.name for c in other.own_checks)
            )
            found.append(Checked(validated.reads["landed"].asset, validated, asset, others))
    return found


def standing(workspace: Workspace, heads: Heads, planned: Planned, last: int | None = None) -> Standing:
    """All rows of all checks as they are current, with what was refused and the days that are missing.

    Args:
        planned: the plan over all partitions.
        last: only as many partitions of each table, the last ones.
    """
    return {table.name: table.results for table in _tables(workspace, heads, planned, last)}


def _tables(
    workspace: Workspace, heads: Heads, planned: Planned, last: int | None = None
) -> Iterator[TableQuality]:
    """How each checked table stands; see `standing`."""
    for one in checked_tables(workspace.project):
        name = one.validated.name
        stored = _stored(workspace, heads, one.results.name)
        rows = {
            partition: _read(workspace, one.results.name, partition, version)
            for partition, version in list(stored.items())[-last if last else 0 :]
        }
        for other in one.others:
            judged = _stored(workspace, heads, other.name)
            for partition, version in list(judged.items())[-last if last else 0 :]:
                rows[partition] = [*rows.get(partition, ()), *_answers(workspace, other, partition, version)]
        problems = _problems(workspace, one, planned)
        current = heads.read([name])[name]
        bad = _by_rule(workspace, name, current, {*rows, *problems})
        for partition in bad.keys() & rows.keys():
            of_contract = _of_contract(workspace, name, partition, current.get(partition, ABSENT))
            rows[partition] = [*of_contract, *rows[partition]]
        for partition, problem in problems.items():
            rows[partition] = [asdict(problem), *rows.get(partition, [])]
        yield TableQuality(name, one.checks, dict(sorted(rows.items())), bad)


def _of_contract(workspace: Workspace, asset: str, partition: str, version: str) -> Iterator[dict[str, Any]]:
    """What the contract of a partition with bad rows answered."""
    for fingerprint in workspace.lake.index.find(asset, partition, version)[:1]:
        for found in stored_results(workspace.lake, asset, partition, fingerprint):
            severity = None if found.passed else found.severity
            bad = float(found.metadata["quarantined_rows"])
            result = Result(
                found.check,
                "",
                "quarantined rows",
                found.passed,
                severity,
                bad,
                None,
                None,
                0,
                found.description,
            )
            yield asdict(result)


def _answers(workspace: Workspace, other: Asset, partition: str, version: str) -> Iterator[dict[str, Any]]:
    """What another asset than that of the results says of a partition."""
    severity = {check.name: check.severity for check in other.own_checks}
    for fingerprint in workspace.lake.index.find(other.name, partition, version)[:1]:
        for found in stored_results(workspace.lake, other.name, partition, fingerprint):
            failed = None if found.passed else found.severity or severity[found.check]
            passed = float(found.passed)
            yield asdict(
                Result(
                    found.check, "", "accepted", found.passed, failed, passed, 1.0, 1.0, 0, found.description
                )
            )


def _problems(workspace: Workspace, one: Checked, planned: Planned) -> dict[str, Result]:
    """What no value says of a table, by partition."""
    found = {
        partition: _failed(FRESHNESS, told_missing(one.raw, partition).description)
        for partition in missing(workspace).get(one.raw, ())
    }
    for entry in planned.entries:
        if entry.action is Action.REFUSED and entry.asset in (one.raw, one.validated.name):
            good = planned.states[one.validated.name].get(entry.key) is not None
            stays = " The last good version stays current." if good else ""
            check = SCHEMA if entry.asset == one.raw else CONTRACT
            partition = partition_key(one.validated.grain, entry.key)
            found[partition] = _failed(check, f"{entry.reason}.{stays}")
    return found


def _failed(check: str, message: str) -> Result:
    return Result(check, "", "accepted", False, ERROR, 0.0, 1.0, 1.0, 0, message)


def show_quality(
    workspace: Workspace,
    heads: Heads,
    reports: Path | None,
    outcome: Outcome,
    plan: Callable[[], Planned],
) -> None:
    """Write the page anew after a run that had to do with a checked table."""
    did = {*outcome.computed, *outcome.reused, *outcome.withdrawn, *outcome.failed}
    names = {name for one in checked_tables(workspace.project) for name in one.assets}
    if reports is not None and did & names:
        write_quality_page(workspace, heads, plan(), reports)


def write_quality_page(workspace: Workspace, heads: Heads, planned: Planned, reports: Path) -> Path:
    """Write the page as everything stands now; at most the last ``MOST_DAYS`` days of each table."""
    tables = list(_tables(workspace, heads, planned, last=MOST_DAYS))
    path = page_path(reports)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, quality_page(tables).encode())
    return path


def _by_rule(
    workspace: Workspace, asset: str, current: Mapping[str, str], partitions: Iterable[str]
) -> dict[str, Mapping[str, int]]:
    """Rows in quarantine by partition and the rule that they broke first."""
    found: dict[str, Mapping[str, int]] = {}
    for partition in sorted(partitions):
        try:
            rows = workspace.lake.quarantined(asset, partition, current.get(partition, ""))
        except DamagedObject:
            continue
        if rows is not None and "rule" in rows.columns:
            found[partition] = Counter(rows.get_column("rule").to_list())
    return found


def _stored(workspace: Workspace, heads: Heads, asset: str) -> dict[str, str]:
    """The data versions of an asset's partitions that are current."""
    find = workspace.lake.index.find
    return {
        partition: version
        for partition, version in sorted(heads.read([asset])[asset].items())
        if version != ABSENT and find(asset, partition, version)
    }


def _read(workspace: Workspace, asset: str, partition: str, version: str) -> list[dict[str, Any]]:
    """The rows of a value; none where it is damaged, and will be computed again."""
    try:
        table: pl.DataFrame = workspace.lake.read(asset, partition, version)
    except DamagedObject:
        return []
    return table.to_dicts()
