"""Which inputs of a partition were accepted last, for those whose present ones were refused."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from my_platform.incremental.declare import ordinal

if TYPE_CHECKING:
    from my_platform.storage.lake import Lake

Inputs = Mapping[tuple[str, int], bytes]
"""Data version by asset and partition."""


class Events(Protocol):
    """What the events of heads tell of how these came about."""

    def made_by(self, asset: str, partition: str) -> str | None:
        """The fingerprint of the head of a partition, where it is known."""
        ...

    def history(self, asset: str, partition: str) -> Sequence[tuple[int, str]]:
        """The data versions that a partition has had, each with a number that orders the events of all partitions."""
        ...


def accepted_inputs(
    lake: "Lake", asset: str, heads: Mapping[str, str], code: str, events: Events | None
) -> Iterator[tuple[str, Inputs, list[Inputs]]]:
    """For heads of other code: the inputs that were accepted last, and other ones that gave the same version.

    An event is written where a version is set, and none where inputs come back that had given the version that
    is current. Which of several were there last is told by the events of what they are versions of.
    """

    @functools.cache
    def stored(names: tuple[str, ...]) -> set[tuple[str, str, str]]:
        return {(t.asset, t.partition, t.data_version) for t in lake.index.traces(list(names))}

    for partition, version in heads.items():
        record = _record_of_head(lake, asset, partition, version, events)
        if record is None or record["code_version"] == code or not _are_stored(record, stored):
            continue
        others = [each for each in _other_records(lake, record) if _are_stored(each, stored)]
        same_code = [each for each in others if each["code_version"] == record["code_version"]]
        last = _current_last([record, *same_code], events) if same_code and events is not None else record
        found = [inputs for each in (record, *others) if (inputs := _inputs_of(each)) != _inputs_of(last)]
        yield partition, _inputs_of(last), found


def _current_last(records: Sequence[Mapping[str, Any]], events: Events) -> Mapping[str, Any]:
    """The record whose inputs were all current at one time the latest; the first one where none were."""
    inputs = [_parts(record) for record in records]
    differing = {part for each in inputs for part in each if any(o.get(part) != each[part] for o in inputs)}
    told = sorted((number, part, version) for part in differing for number, version in events.history(*part))
    now: dict[tuple[str, str], str] = {}
    last = [-1] * len(records)
    for number, part, version in told:
        now[part] = version
        for at, each in enumerate(inputs):
            # What was withdrawn is no input.
            if all(now.get(p) == each[p] if p in each else len(now.get(p, "")) != 32 for p in differing):
                last[at] = number
    return records[last.index(max(last))]


def _record_of_head(
    lake: "Lake", asset: str, partition: str, version: str, events: Events | None
) -> dict[str, Any] | None:
    """How a head was made. Several objects may hold its version; its fingerprint tells them apart."""
    fingerprint = events.made_by(asset, partition) if events is not None else None
    if fingerprint is not None and fingerprint in lake.index.find(asset, partition, version):
        record = lake.record_at(asset, partition, fingerprint)
        if record is not None:
            return record
    return lake.record(asset, partition, version)


def _other_records(lake: "Lake", record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """How else a version of a partition was made."""
    asset, partition = record["asset"], record["partition"]
    for fingerprint in lake.index.find(asset, partition, record["data_version"]):
        if fingerprint != record["fingerprint"]:
            other = lake.record_at(asset, partition, fingerprint)
            if other is not None:
                yield other


def _parts(record: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    inputs: Mapping[str, Mapping[str, str]] = record.get("inputs", {})
    return {(name, key): version for name, found in inputs.items() for key, version in found.items()}


def _are_stored(
    record: Mapping[str, Any], stored: Callable[[tuple[str, ...]], set[tuple[str, str, str]]]
) -> bool:
    """Whether all that a value was made from is still stored, as landed files never are.

    Args:
        stored: the asset, partition and data version of all traces of some assets.
    """
    wanted = [(*part, version) for part, version in _parts(record).items()]
    return stored(tuple(record.get("inputs", {}))).issuperset(wanted)


def _inputs_of(record: Mapping[str, Any]) -> Inputs:
    return {(name, ordinal(key)): bytes.fromhex(version) for (name, key), version in _parts(record).items()}
