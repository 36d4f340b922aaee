"""How stored values answered the checks of their assets, and telling it where nothing is computed."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from my_platform.incremental.checks import CheckResult
from my_platform.incremental.planner import Entry
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


def settle_disputed(workspace: Workspace, heads: Heads, planned: Sequence[Entry]) -> None:
    """Tell the results of current values where a refused one had the last word and is not asked for any more.

    That is so where what was refused was taken back: nothing is computed then, and no run would say it.
    """
    disputed = workspace.lake.index.disputed()
    if not disputed:
        return
    assets = workspace.project.assets
    busy = {(entry.asset, partition_key(assets[entry.asset].grain, entry.key)) for entry in planned}
    for asset, partition in disputed:
        if (asset, partition) not in busy:
            if asset in assets:
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
