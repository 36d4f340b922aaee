"""Where a value came from, in the words that its materialization shows."""

from collections.abc import Mapping
from typing import Any

from my_platform.incremental.planner import Entry
from my_platform.operations.inputs import Inputs
from my_platform.operations.outcome import Heads
from my_platform.storage.lake import ABSENT, Lake
from my_platform.storage.trace_index import Trace

# The name that Dagster's catalogue knows.
ROW_COUNT = "dagster/row_count"


def provenance(inputs: Inputs, entry: Entry, trace: Trace, *, cause: str, reused: bool) -> dict[str, Any]:
    """The metadata of a materialization: fingerprint, inputs, cause, and what it cost if it was computed."""
    read = {name: inputs.versions(entry, name) for name in inputs.asset.reads}
    reason = inputs.workspace.why_fitted(inputs.node.name, entry.key)
    gaps, stale, older = inputs.gaps(entry.key), inputs.stale_ones(entry.key), inputs.older_ones(entry)
    return {
        "fingerprint": trace.fingerprint,
        "reused": reused,
        "cause": cause,
        "inputs": {
            name: _brief(found)
            for name, found in read.items()
            if found or inputs.asset.reads[name].gaps != "optional"
        },
        **({"retraining": reason} if reason else {}),
        **({"gaps": gaps} if gaps else {}),
        **({"stale_inputs": stale} if stale else {}),
        **({"older_inputs": older} if older else {}),
        **({} if reused else {"seconds": round(trace.seconds, 3)}),
        "bytes": trace.bytes,
        ROW_COUNT: trace.rows,
    }


def cause_of(inputs: Inputs, entry: Entry, partition: str, head: str | None, heads: Heads) -> str:
    """Why a partition becomes current with another value than its head."""
    if head is None:
        return "first computed"
    if head == ABSENT:
        return "its inputs are there again"
    name, lake = inputs.node.name, inputs.workspace.lake
    old = _record_of(lake, name, partition, head, heads)
    if old is None:
        return "the event that was current names no stored value"
    by_asset: dict[str, dict[str, str]] = {}
    for read_name, read in inputs.asset.reads.items():
        by_asset.setdefault(read.asset, {}).update(inputs.versions(entry, read_name))
    return cause(old, by_asset, inputs.workspace.project.code_versions[name])


def cause(old: Mapping[str, Any], inputs: Mapping[str, Mapping[str, str]], code: str) -> str:
    """Why a partition was computed again, from the record of the value that it had."""
    if old.get("code_version") != code:
        return f"the code or a parameter changed: was {old.get('code_version')}, is {code}"
    before: Mapping[str, Mapping[str, str]] = old.get("inputs", {})
    total = sum(len(found) for found in inputs.values())
    changes = [
        (asset, key, before.get(asset, {}).get(key), inputs.get(asset, {}).get(key))
        for asset in sorted({*before, *inputs})
        for key in sorted({*before.get(asset, {}), *inputs.get(asset, {})})
        if before.get(asset, {}).get(key) != inputs.get(asset, {}).get(key)
    ]
    if not changes:
        return "it was current with another value"
    asset, key, was, now = changes[0]
    what = "changed" if was and now else ("is gone" if was else "is there now")
    versions = f"was {(was or 'absent')[:4]}…, is {(now or 'absent')[:4]}…"
    return f"{asset} {key} {what}: {len(changes)} of {total} inputs; {versions}".replace("  ", " ")


def _brief(found: Mapping[str, str]) -> dict[str, str]:
    """Input versions for the UI; a long window is told by its ends and its number."""
    if len(found) <= 3:
        return dict(found)
    keys = list(found)
    return {keys[0]: found[keys[0]], "…": f"{len(keys)} partitions", keys[-1]: found[keys[-1]]}


def _record_of(
    lake: Lake, asset: str, partition: str, version: str, heads: Heads
) -> Mapping[str, Any] | None:
    """How a head was made; several computations may have come to the same data version."""
    known = lake.index.find(asset, partition, version)
    made_by = heads.made_by(asset, partition) if len(known) > 1 else None
    found = lake.record_at(asset, partition, made_by) if made_by else None
    return found or lake.record(asset, partition, version)
