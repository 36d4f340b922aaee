"""How stored values answered the checks of their assets, and telling it where nothing is computed."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace

from my_platform.incremental.checks import CheckResult
from my_platform.incremental.declare import ordinal
from my_platform.incremental.planner import Entry, Node
from my_platform.operations.missing import missing, told_missing
from my_platform.operations.outcome import Heads, Outcome
from my_platform.operations.platform import Workspace
from my_platform.storage.lake import ABSENT, Lake, partition_key


def stored_results(lake: Lake, asset: str, partition: str, fingerprint: str) -> list[CheckResult]:
    """The results that stand in the record of a value; none where the object is damaged or gone."""
    record = lake.record_at(asset, partition, fingerprint) or {}
    return [CheckResult.of_json(stored) for stored in record.get("checks", ())]


def of_refused(results: Iterable[CheckResult], reason: str) -> list[CheckResult]:
    """Results of a value that was turned away, each saying so."""
    return [replace(result, metadata={**result.metadata, "refused": reason}) for result in results]


def to_settle(
    workspace: Workspace,
    plan: Callable[[], Sequence[Entry]],
    allowed: Callable[[Node, int], bool] | None = None,
) -> list[tuple[str, str]]:
    """Asset and partition of what no computation tells: days that are missing, and refusals that are over.

    A refusal is over where what was refused was taken back: nothing is computed then, so nothing says that
    the current value has the last word again.

    Args:
        plan: what is not fresh, made with the same ``allowed``; asked only where a refused value had a say.
        allowed: the partitions that were planned; None for all.
    """
    assets, nodes = workspace.project.assets, workspace.project.nodes
    gaps = [(asset, day) for asset, days in missing(workspace).items() for day in days]
    told = set(workspace.lake.index.disputed())
    found = [each for each in gaps if each not in told]
    disputed = sorted(each for each in told - set(gaps) if each[0] in assets)
    if disputed:
        busy = _places(workspace, plan())
        found += [each for each in disputed if each not in busy]
    return [each for each in found if allowed is None or allowed(nodes[each[0]], ordinal(each[1]))]


def settle(workspace: Workspace, heads: Heads, found: Iterable[tuple[str, str]]) -> None:
    """Tell what ``to_settle`` found, within a run: without one Dagster takes a result only once."""
    gaps = missing(workspace)
    for asset, partition in found:
        if partition in gaps.get(asset, ()):
            heads.judge(asset, {partition: [told_missing(asset, partition)]})
            workspace.lake.index.dispute(asset, partition)
        else:
            tell_again(workspace, heads, [asset], [partition])
            workspace.lake.index.settle(asset, [partition])


def follow(workspace: Workspace, heads: Heads, outcome: Outcome, plan: Callable[[], Sequence[Entry]]) -> None:
    """Tell results again of what has a new event though its results are the same, so that Dagster shows them.

    Args:
        outcome: what the run did.
        plan: what is not fresh after it: its results come with the run that computes them.
    """
    owing: dict[str, set[str]] = {}
    for name, asset in workspace.project.assets.items():
        for judged in {check.about for check in asset.own_checks} - {"", name}:
            behind = _touched(outcome, judged) - _touched(outcome, name)
            if behind:
                owing[name] = behind
    if owing:
        busy = _places(workspace, plan())
        for name, partitions in owing.items():
            tell_again(workspace, heads, [name], sorted(p for p in partitions if (name, p) not in busy))


def _touched(outcome: Outcome, asset: str) -> set[str]:
    return {*outcome.computed.get(asset, ()), *outcome.reused.get(asset, ())}


def _places(workspace: Workspace, entries: Sequence[Entry]) -> Collection[tuple[str, str]]:
    assets = workspace.project.assets
    return {(entry.asset, partition_key(assets[entry.asset].grain, entry.key)) for entry in entries}


def tell_again(workspace: Workspace, heads: Heads, assets: Sequence[str], partitions: Sequence[str]) -> None:
    """Tell how the current values of partitions answered the checks of their assets."""
    current = heads.read(assets) if assets else {}
    for asset in assets:
        found: dict[str, Sequence[CheckResult]] = {}
        for partition in partitions:
            version = current[asset].get(partition, ABSENT)
            for fingerprint in workspace.lake.index.find(asset, partition, version)[:1]:
                found[partition] = stored_results(workspace.lake, asset, partition, fingerprint)
        if any(found.values()):
            heads.judge(asset, found)
