"""How stored values answered the checks of their assets, and telling it where nothing is computed."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from my_platform.incremental.checks import CheckResult
from my_platform.incremental.declare import ordinal
from my_platform.incremental.planner import Entry, Node
from my_platform.operations.outcome import Heads
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
    """Asset and partition of current values where a refused one had the last word and is not asked for any more.

    That is so where what was refused was taken back: nothing is computed then, so nothing says it.

    Args:
        plan: what is not fresh, made with the same ``allowed``; asked only where a refused value had a say.
        allowed: the partitions that were planned; None for all.
    """
    assets, nodes = workspace.project.assets, workspace.project.nodes
    disputed = [
        (asset, partition)
        for asset, partition in workspace.lake.index.disputed()
        if asset in assets and (allowed is None or allowed(nodes[asset], ordinal(partition)))
    ]
    if not disputed:
        return []
    busy = {(entry.asset, partition_key(assets[entry.asset].grain, entry.key)) for entry in plan()}
    return [found for found in disputed if found not in busy]


def settle(workspace: Workspace, heads: Heads, found: Iterable[tuple[str, str]]) -> None:
    """Tell the results of current values again, within a run: without one Dagster takes them only once."""
    for asset, partition in found:
        tell_again(workspace, heads, [asset], [partition])
        workspace.lake.index.settle(asset, [partition])


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
