"""Execution: a run takes assets and partitions, computes what is owed among them, and makes it current.

A run takes what it is given: parents that were not selected are used as they are. Every value is stored
under its fingerprint before anything else happens; then, under a lock that the kernel releases when its
holder dies, the inputs' heads are read once more, and only if none has moved the value becomes the head.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import polars as pl

from my_platform.errors import DamagedObject, PlatformError, Refused
from my_platform.incremental.declare import (
    DETERMINISTIC,
    Asset,
    Grain,
    Produced,
    Publication,
    Read,
    ordinal,
)
from my_platform.incremental.planner import (
    Action,
    Entry,
    Node,
    Past,
    State,
    fall_back,
    passed_over,
    plan_asset,
    waits_for,
    window_keys,
)
from my_platform.operations.platform import LANDED, Project, Workspace
from my_platform.storage.lake import ABSENT, Lake, partition_key
from my_platform.storage.landing import Landed
from my_platform.storage.trace_index import Trace

# The name that Dagster's catalogue knows.
ROW_COUNT = "dagster/row_count"
_FLUSH_PARTITIONS = 32
_FLUSH_S = 1.0
_CACHE_BYTES = 1 << 30
_MOST_NAMED = 10
_CHANGES = (Action.COMPUTE, Action.REUSE, Action.LATER, Action.POSSIBLE, Action.WITHDRAW)


class Heads(Protocol):
    """Which data version each partition has now, as the orchestrator records it."""

    def read(self, assets: Sequence[str]) -> dict[str, dict[str, str]]:
        """Data version by partition by asset; withdrawn partitions read ``absent``."""
        ...

    def made_by(self, asset: str, partition: str) -> str | None:
        """The fingerprint of the head of a partition, where it is known."""
        ...

    def emit(self, asset: str, partition: str, version: str, metadata: Mapping[str, Any]) -> None:
        """Make a data version the head of a partition."""
        ...

    def withdraw(self, asset: str, partition: str) -> None:
        """Record that a partition has no head any more."""
        ...

    def commit_section(self) -> AbstractContextManager[None]:
        """A section that one process at a time is in."""
        ...


@dataclass
class Outcome:
    """What a run did: partitions by asset, reasons by partition; ``stopped`` are fingerprints that failed."""

    computed: dict[str, list[str]] = field(default_factory=dict)
    reused: dict[str, list[str]] = field(default_factory=dict)
    withdrawn: dict[str, list[str]] = field(default_factory=dict)
    failed: dict[str, dict[str, str]] = field(default_factory=dict)
    waiting: dict[str, dict[str, str]] = field(default_factory=dict)
    interrupted: dict[str, dict[str, str]] = field(default_factory=dict)
    stopped: set[str] = field(default_factory=set)

    @property
    def made_progress(self) -> bool:
        return any((self.computed, self.reused, self.withdrawn, self.failed, self.interrupted))

    def add(self, other: "Outcome") -> None:
        self.stopped |= other.stopped
        for mine, theirs in (
            (self.computed, other.computed),
            (self.reused, other.reused),
            (self.withdrawn, other.withdrawn),
        ):
            for asset, keys in theirs.items():
                mine.setdefault(asset, []).extend(keys)
        for reasons, others in (
            (self.failed, other.failed),
            (self.waiting, other.waiting),
            (self.interrupted, other.interrupted),
        ):
            for asset, found in others.items():
                reasons.setdefault(asset, {}).update(found)


@dataclass(frozen=True)
class Request:
    """What a run is asked for.

    Attributes:
        assets: the assets to bring up to date, in any order.
        allowed: the partitions that may change; None for all of the assets.
        insist: partitions by asset that the caller wants an event for, also when they are fresh.
        run_id: names the run in records.
    """

    assets: frozenset[str]
    allowed: Callable[[Node, int], bool] | None = None
    insist: Mapping[str, Sequence[str]] = field(default_factory=dict)
    run_id: str = ""


class Execution:
    """One run over a workspace."""

    def __init__(
        self,
        workspace: Workspace,
        heads: Heads,
        request: Request,
        *,
        on_partition: Callable[[str, str, str], None] | None = None,
        log: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.workspace = workspace
        self.heads = heads
        self.request = request
        self.outcome = Outcome()
        self.on_partition = on_partition or (lambda *_: None)
        self.log = log
        self.cache = _TableCache(workspace.lake)
        self.states: dict[str, State] = {}
        self.stale: dict[str, set[int]] = {}

    def run(self) -> Outcome:
        """Bring the requested assets up to date, parents first; failures are in the outcome, not raised."""
        project = self.workspace.project
        self.workspace.look()
        self.states = self.workspace.source_states()
        names = project.ancestors(sorted(self.request.assets))
        heads = self.heads.read(sorted(names))
        nodes = [node for node in project.order if node.name in names]
        self.stale = self._stale(nodes, heads)
        for group in _groups(project, nodes):
            runs = [run for node in group if (run := self._plan(node, heads)) is not None]
            if len(runs) > 1:
                _run_together(runs)
            elif runs:
                runs[0].run()
        return self.outcome

    def _plan(self, node: Node, heads: Mapping[str, Mapping[str, str]]) -> "_AssetRun | None":
        """The state of an asset after its parents, and what is to be done if it is one of those asked for."""
        selected = node.name in self.request.assets
        past = self.past(node, heads.get(node.name, {}))
        state, entries = plan_asset(
            node, self.states, past, *self.workspace.domain(node), self._allowed(node, selected)
        )
        self.states[node.name] = state
        return _AssetRun(self, node, state, entries, heads.get(node.name, {}), past) if selected else None

    def past(self, node: Node, heads: Mapping[str, str]) -> Past:
        """What is known of an asset."""
        return self.workspace.lake.past(
            node.name,
            node.grain,
            node.code,
            heads,
            lambda partition: self.heads.made_by(node.name, partition),
        )

    def _stale(self, nodes: Sequence[Node], heads: Mapping[str, Mapping[str, str]]) -> dict[str, set[int]]:
        """Partitions that a refresh would change and this run may not: it uses them as they are."""
        stale: dict[str, set[int]] = {}
        if self.request.allowed is None:
            return stale
        states = dict(self.states)
        for node in nodes:
            past = self.past(node, heads.get(node.name, {}))
            states[node.name], entries = plan_asset(node, states, past, *self.workspace.domain(node))
            stale[node.name] = {
                entry.key
                for entry in entries
                if entry.action in _CHANGES and not self.request.allowed(node, entry.key)
            }
        return stale

    def _allowed(self, node: Node, selected: bool) -> Callable[[Node, int], bool] | None:
        if self.request.allowed is not None:
            return self.request.allowed
        return None if selected else lambda _node, _key: False


class _AssetRun:
    """One asset within a run."""

    def __init__(
        self,
        execution: Execution,
        node: Node,
        state: State,
        entries: list[Entry],
        heads: Mapping[str, str],
        past: Past,
    ) -> None:
        self.execution = execution
        self.workspace = execution.workspace
        self.lake = execution.workspace.lake
        self.outcome = execution.outcome
        self.node = node
        self.asset: Asset = self.workspace.project.assets[node.name]
        self.state = state
        self.entries = entries
        self.heads = dict(heads)
        self.accepted = dict(past.accepted)
        self.refused: list[Entry] = []
        self.pending: list[tuple[Entry, Trace, Mapping[str, Any], bool]] = []
        self.flushed_at = time.monotonic()
        self.touched: set[str] = set()

    def run(self) -> None:
        compute = self.settle()
        if compute:
            self.compute(compute)
        self.finish()

    def finish(self) -> None:
        """Make current what was computed, and see to what was refused and to what was fresh."""
        self.flush()
        self._go_back()
        self._answer_for_fresh()

    def settle(self) -> list[Entry]:
        """Do all that takes no computing; what is left to compute."""
        compute: list[Entry] = []
        self._withdraw([entry for entry in self.entries if entry.action is Action.WITHDRAW])
        for entry in self.entries:
            partition = partition_key(self.node.grain, entry.key)
            if entry.action is Action.WAITING:
                self._say(
                    self.outcome.waiting, partition, waits_for(self.node, entry.key, self.execution.states)
                )
            elif entry.action is Action.REFUSED:
                self._say(self.outcome.failed, partition, entry.reason)
            elif entry.action is Action.REUSE:
                self._reuse(entry, compute)
            elif entry.action is Action.COMPUTE:
                self._adopt(entry, compute)
        self.flush()
        return compute

    def _withdraw(self, entries: Sequence[Entry]) -> None:
        """Take back what has lost its inputs, unless they have come back meanwhile."""
        if not entries:
            return
        with self.execution.heads.commit_section():
            now = self.execution.heads.read([*self._parents(), self.node.name])
            for entry in entries:
                partition = partition_key(self.node.grain, entry.key)
                moved = self._moved(entry, now)
                if moved is None and now[self.node.name].get(partition) != self.heads.get(partition):
                    moved = self._named(partition)
                if moved is not None:
                    self._leave_for_next_pass(entry, partition, f"{moved} moved before this was withdrawn")
                    continue
                self.execution.heads.withdraw(self.node.name, partition)
                self.outcome.withdrawn.setdefault(self.node.name, []).append(partition)
                self.heads[partition] = ABSENT

    def _go_back(self) -> None:
        """Partitions whose inputs were refused in this run keep to those that were accepted last."""
        refused, self.refused = self.refused, []
        if not refused:
            return
        partitions = [partition_key(self.node.grain, entry.key) for entry in refused]
        past = self.execution.past(self.node, {p: self.heads[p] for p in partitions if p in self.heads})
        self.accepted |= past.accepted
        self.entries = [
            found
            for entry in refused
            for found in fall_back(
                self.node, entry.key, bytes.fromhex(entry.fingerprint), past, self.execution.states
            )
            if found.accepted
        ]
        compute = self.settle()
        if compute:
            self.compute(compute)

    def _reuse(self, entry: Entry, compute: list[Entry]) -> None:
        partition = partition_key(self.node.grain, entry.key)
        if not self.lake.store.exists(self.lake.path(self.node.name, partition, entry.fingerprint)):
            self.lake.index.forget(self.node.name, partition, entry.fingerprint)
            compute.append(entry)
            return
        self.state.set(entry.key, bytes.fromhex(entry.version))
        trace = self.lake.index.trace(self.node.name, partition, entry.fingerprint)
        if trace is None:
            compute.append(entry)
            return
        self._queue(entry, trace, {}, created=False)

    def _adopt(self, entry: Entry, compute: list[Entry]) -> None:
        partition = partition_key(self.node.grain, entry.key)
        trace = self.lake.adopt(self.node.name, partition, entry.fingerprint)
        if trace is None:
            compute.append(entry)
            return
        self.state.set(entry.key, bytes.fromhex(trace.data_version))
        if self.heads.get(partition) != trace.data_version:
            self._queue(entry, trace, {}, created=False)

    def compute(self, entries: list[Entry]) -> None:
        by_partition = {partition_key(self.node.grain, entry.key): entry for entry in entries}
        batch = _Batch(self, by_partition)
        left = dict(by_partition)
        started = time.perf_counter()
        try:
            for partition, made in self.asset.compute(batch):
                self.take(left[partition], partition, made, batch, time.perf_counter() - started)
                del left[partition]
                started = time.perf_counter()
        except Exception as error:
            self.flush()
            self._broken(left, error)
        else:
            self.flush()
            for partition, entry in left.items():
                self._failed(entry, partition, PlatformError("the function gave no value for this partition"))

    def take(
        self, entry: Entry, partition: str, made: Produced | Exception, batch: "_Batch", seconds: float
    ) -> None:
        """Store a value, or record why there is none."""
        if isinstance(made, Produced):
            self._commit(entry, partition, made, batch, seconds)
        else:
            self._failed(entry, partition, made)

    def _broken(self, left: Mapping[str, Entry], error: Exception) -> None:
        """The function broke off. One partition at a time tells whose fault it is."""
        if len(left) > 1 and not isinstance(error, MemoryError):
            for entry in left.values():
                self.compute([entry])
            return
        for partition, entry in left.items():
            self._failed(entry, partition, error)

    def _leave_for_next_pass(self, entry: Entry, partition: str, reason: str) -> None:
        """What a partition will be is not known in this pass, so what reads it waits for the next one."""
        self.state.set(entry.key, None, pending=True)
        self._say(self.outcome.interrupted, partition, reason)

    def _failed(self, entry: Entry, partition: str, error: Exception) -> None:
        if isinstance(error, DamagedObject | _Moved):
            self._leave_for_next_pass(entry, partition, str(error))
            return
        self.state.set(entry.key, self._head(partition))
        self.outcome.stopped.add(entry.fingerprint)
        reason = str(error) if isinstance(error, PlatformError) else f"{type(error).__name__}: {error}"
        reason = f"{self._named(partition)}: {reason}"
        if isinstance(error, (Refused, pl.exceptions.PolarsError, *DETERMINISTIC)):
            self.lake.index.refuse(self.node.name, partition, entry.fingerprint, reason)
            if not entry.accepted:
                self.refused.append(entry)
        self._say(self.outcome.failed, partition, reason)

    def _commit(self, entry: Entry, partition: str, made: Produced, batch: "_Batch", seconds: float) -> None:
        inputs = batch.all_versions(partition)
        code = self.workspace.project.code_versions[self.node.name]
        record = {"inputs": inputs, "run_id": self.execution.request.run_id}
        committed = self.lake.commit(
            self.node.name,
            partition,
            entry.fingerprint,
            made.table,
            record,
            code_version=code,
            seconds=seconds,
            quarantined=made.quarantined,
        )
        trace = committed.trace
        if committed.created:
            self.execution.cache.put(self.node.name, partition, trace.data_version, made.table)
        metadata = dict(made.metadata)
        if self.asset.publish is not None:
            self.lake.index.add([trace])
            metadata |= self._publish(trace, made.table)
        self.state.set(entry.key, bytes.fromhex(trace.data_version))
        self._queue(entry, trace, metadata, created=committed.created)

    def _queue(self, entry: Entry, trace: Trace, metadata: Mapping[str, Any], *, created: bool) -> None:
        if not created and self.asset.publish is not None:
            table = self.lake.read(self.node.name, trace.partition, trace.data_version)
            metadata = {**metadata, **self._publish(trace, table)}
        self.pending.append((entry, trace, metadata, created))
        expensive = created and trace.seconds > _FLUSH_S
        late = time.monotonic() - self.flushed_at > _FLUSH_S
        if expensive or late or len(self.pending) >= _FLUSH_PARTITIONS:
            self.flush()

    def _publish(self, trace: Trace, table: pl.DataFrame) -> Mapping[str, Any]:
        assert self.asset.publish is not None
        record = self.lake.record(self.node.name, trace.partition, trace.data_version)
        if record is None:
            raise DamagedObject(f"{self._named(trace.partition)}", "the value is not in the store any more")
        return self.asset.publish(
            Publication(self.node.name, trace.partition, table, record, self.lake.record)
        )

    def flush(self) -> None:
        """Make the stored values current whose inputs have not moved since they were read."""
        self.flushed_at = time.monotonic()
        if not self.pending:
            return
        self.lake.index.add([trace for _, trace, _, created in self.pending if created])
        with self.execution.heads.commit_section():
            now = self.execution.heads.read([*self._parents(), self.node.name])
            for entry, trace, metadata, created in self.pending:
                self._make_current(entry, trace, metadata, created, now)
        self.pending.clear()

    def _make_current(
        self,
        entry: Entry,
        trace: Trace,
        metadata: Mapping[str, Any],
        created: bool,
        now: Mapping[str, Mapping[str, str]],
    ) -> None:
        partition = trace.partition
        moved = self._moved(entry, now)
        current = now.get(self.node.name, {}).get(partition)
        if moved is None and current not in (self.heads.get(partition), trace.data_version):
            moved = self._named(partition)
        kind = self.outcome.computed if created else self.outcome.reused
        if moved is not None:
            kind.setdefault(self.node.name, []).append(partition)
            self._leave_for_next_pass(entry, partition, f"{moved} moved while this was computed")
            return
        insisted = partition in self.execution.request.insist.get(self.node.name, ())
        if current != trace.data_version or created or insisted:
            self.execution.heads.emit(
                self.node.name, partition, trace.data_version, self._metadata(entry, trace, metadata, created)
            )
        self.heads[partition] = trace.data_version
        self.touched.add(partition)
        kind.setdefault(self.node.name, []).append(partition)
        self.execution.on_partition(self.node.name, partition, "computed" if created else "reused")

    def _moved(self, entry: Entry, now: Mapping[str, Mapping[str, str]]) -> str | None:
        """The input that has another head now than the one that was read; None if all stand still."""
        for _, read in self.node.reads:
            parent = self.execution.states[read.asset]
            if read.asset.startswith(LANDED):
                if not self._landed_still(read, parent.grain, entry.key):
                    return f"{read.asset} {partition_key(parent.grain, entry.key)}"
                continue
            for key in window_keys(read, parent, entry.key):
                partition = partition_key(parent.grain, key)
                version = parent.get(key)
                current = now.get(read.asset, {}).get(partition, ABSENT)
                if (version.hex() if version else ABSENT) != current and not self._no_head(
                    read.asset, partition, current, version
                ):
                    return f"{read.asset} {partition}"
        return None

    def _landed_still(self, read: Read, grain: Grain, key: int) -> bool:
        landed, landing = self._landed(read), self.workspace.landing
        digest = landed.digests.get(key)
        if digest is None:
            return not landing.has(read.asset.removeprefix(LANDED), grain, key)
        return landing.still(landed.files[key], digest)

    def _parents(self) -> list[str]:
        return sorted({r.asset for r in self.asset.reads.values() if not r.asset.startswith(LANDED)})

    def inputs(self, entry: Entry, name: str) -> dict[str, str]:
        """The versions of a read's partitions that are there, or that were there when they were accepted."""
        read = self.asset.reads[name]
        parent = self.execution.states[read.asset]
        accepted = self.accepted[entry.key] if entry.accepted else {}
        found = {}
        for key in window_keys(read, parent, entry.key):
            version = accepted.get((read.asset, key)) if entry.accepted else parent.get(key)
            if version is not None:
                found[partition_key(parent.grain, key)] = version.hex()
        return found

    def _no_head(self, asset: str, partition: str, current: str, version: bytes | None) -> bool:
        """Whether a latest event that differs names no stored object, and so is no head."""
        return version is None and not self.lake.index.find(asset, partition, current)

    def _metadata(
        self, entry: Entry, trace: Trace, metadata: Mapping[str, Any], created: bool
    ) -> dict[str, Any]:
        inputs = {name: self.inputs(entry, name) for name in self.asset.reads}
        gaps = passed_over(self.node, entry.key, self.execution.states)
        return {
            **metadata,
            "fingerprint": trace.fingerprint,
            "reused": not created,
            "cause": self._cause(entry, trace, inputs),
            "inputs": {name: _brief(found) for name, found in inputs.items()},
            **({"gaps": [self._named_input(asset, key) for asset, key in gaps]} if gaps else {}),
            **self._stale_inputs(entry.key),
            **({"seconds": round(trace.seconds, 3)} if created else {}),
            "bytes": trace.bytes,
            ROW_COUNT: trace.rows,
        }

    def _stale_inputs(self, key: int) -> dict[str, list[str]]:
        """The inputs that were used as they are, though a refresh would change them."""
        stale = [
            self._named_input(read.asset, k)
            for _, read in self.node.reads
            if self.execution.stale.get(read.asset)
            for k in window_keys(read, self.execution.states[read.asset], key)
            if k in self.execution.stale[read.asset]
        ]
        more = [f"and {len(stale) - _MOST_NAMED} more"] if len(stale) > _MOST_NAMED else []
        return {"stale_inputs": [*stale[:_MOST_NAMED], *more]} if stale else {}

    def _cause(self, entry: Entry, trace: Trace, inputs: Mapping[str, Mapping[str, str]]) -> str:
        head = self.heads.get(trace.partition)
        if head is None:
            return "first computed"
        if head == ABSENT:
            return "its inputs are there again"
        old = self._record_of(trace.partition, head)
        if old is None:
            return "the event that was current names no stored value"
        by_asset: dict[str, dict[str, str]] = {}
        for name, found in inputs.items():
            by_asset.setdefault(self.asset.reads[name].asset, {}).update(found)
        return cause(old, by_asset, self.workspace.project.code_versions[self.node.name])

    def _record_of(self, partition: str, version: str) -> Mapping[str, Any] | None:
        """How a head was made; several computations may have come to the same data version."""
        known = self.lake.index.find(self.node.name, partition, version)
        made_by = self.execution.heads.made_by(self.node.name, partition) if len(known) > 1 else None
        found = self.lake.record_at(self.node.name, partition, made_by) if made_by else None
        return found or self.lake.record(self.node.name, partition, version)

    def _answer_for_fresh(self) -> None:
        """Events for the partitions that a person asked for and that were up to date already."""
        if not self.execution.request.insist.get(self.node.name):
            return
        with self.execution.heads.commit_section():
            self._answer(self.execution.heads.read([self.node.name])[self.node.name])

    def _answer(self, now: Mapping[str, str]) -> None:
        failed = self.outcome.failed.get(self.node.name, {})
        waiting = self.outcome.waiting.get(self.node.name, {})
        interrupted = self.outcome.interrupted.get(self.node.name, {})
        for partition in self.execution.request.insist.get(self.node.name, ()):
            if partition in self.touched or partition in failed or partition in interrupted:
                continue
            key = ordinal(partition)
            slot = self.state.slot(key)
            if 0 <= slot < len(self.state) and self.state.pending[slot]:
                self._say(self.outcome.interrupted, partition, "reads what this run did not bring up to date")
                continue
            version = self.state.get(key)
            if version is not None and now.get(partition) != version.hex():
                self._say(self.outcome.interrupted, partition, "another run has changed it meanwhile")
                continue
            if version is None:
                if partition not in waiting:
                    self._say(
                        self.outcome.waiting, partition, waits_for(self.node, key, self.execution.states)
                    )
                continue
            fingerprint = self.lake.index.find(self.node.name, partition, version.hex())[0]
            trace = self.lake.index.trace(self.node.name, partition, fingerprint)
            fresh = Entry(self.node.name, key, Action.REUSE, fingerprint, version.hex())
            self.execution.heads.emit(
                self.node.name,
                partition,
                version.hex(),
                {
                    "fingerprint": fingerprint,
                    "reused": True,
                    "cause": "fresh: nothing it reads has changed",
                    "inputs": {name: _brief(self.inputs(fresh, name)) for name in self.asset.reads},
                    **self._stale_inputs(key),
                    **({"bytes": trace.bytes, ROW_COUNT: trace.rows} if trace else {}),
                },
            )
            self.outcome.reused.setdefault(self.node.name, []).append(partition)

    def _named_input(self, asset: str, key: int) -> str:
        grain = self.execution.states[asset].grain
        return f"{asset} {partition_key(grain, key)}".strip()

    def _landed(self, read: Read) -> Landed:
        return self.workspace.landed[read.asset.removeprefix(LANDED)]

    def _head(self, partition: str) -> bytes | None:
        version = self.heads.get(partition, ABSENT)
        found = version != ABSENT and self.lake.index.find(self.node.name, partition, version)
        return bytes.fromhex(version) if found else None

    def _named(self, partition: str) -> str:
        return f"{self.node.name} {partition}".strip()

    def _say(self, where: dict[str, dict[str, str]], partition: str, reason: str) -> None:
        where.setdefault(self.node.name, {})[partition] = reason
        self.execution.log(f"{self._named(partition)}: {reason}")


def _groups(project: Project, nodes: Sequence[Node]) -> list[list[Node]]:
    """The assets in order; neighbours that are computed together in one group."""
    groups: list[list[Node]] = []
    for node in nodes:
        together = project.assets[node.name].together
        before = project.assets[groups[-1][0].name].together if groups else None
        if together is not None and before is not None and together[0] == before[0]:
            groups[-1].append(node)
        else:
            groups.append([node])
    return groups


def _run_together(runs: Sequence[_AssetRun]) -> None:
    """Compute several assets in one call; one by one where that fails, to tell whose fault it is."""
    todo = {run.node.name: (run, compute) for run in runs if (compute := run.settle())}
    if len(todo) > 1:
        batches = {
            name: _Batch(run, {partition_key(run.node.grain, entry.key): entry for entry in compute})
            for name, (run, compute) in todo.items()
        }
        together = next(iter(todo.values()))[0].asset.together
        assert together is not None
        started = time.perf_counter()
        try:
            made = list(together[1](batches))
        except Exception as error:
            runs[0].execution.log(f"computed one by one, because together they failed: {error}")
        else:
            seconds = (time.perf_counter() - started) / max(len(made), 1)
            for name, partition, value in made:
                run, batch = todo[name][0], batches[name]
                run.take(batch.entries[partition], partition, value, batch, seconds)
            todo.clear()
    for run in runs:
        if run.node.name in todo:
            run.compute(todo[run.node.name][1])
        run.finish()


class _Moved(PlatformError):
    """An input changed while it was read; the next refresh sees it as it is then."""


class _Batch:
    """The partitions of an asset that are computed together; see ``declare.Batch``."""

    def __init__(self, run: _AssetRun, entries: Mapping[str, Entry]) -> None:
        self.run = run
        self.entries = entries
        self.keys: Sequence[str] = sorted(entries)
        self._versions: dict[tuple[str, str], dict[str, str]] = {}

    def versions(self, read: str, key: str) -> Mapping[str, str]:
        if (read, key) not in self._versions:
            self._versions[read, key] = self.run.inputs(self.entries[key], read)
        return self._versions[read, key]

    def inputs(self, read: str, key: str) -> Mapping[str, pl.DataFrame]:
        declared = self.run.asset.reads[read]
        return {
            partition: self.run.execution.cache.get(declared.asset, partition, version, declared.columns)
            for partition, version in self.versions(read, key).items()
        }

    def empty(self, read: str) -> pl.DataFrame:
        """A table without rows that has the columns a read would give."""
        declared = self.run.asset.reads[read]
        columns = self.run.workspace.project.assets[declared.asset].columns
        names = declared.columns or tuple(columns)
        return pl.DataFrame(schema={name: columns[name].type for name in names if name in columns})

    def files(self, read: str, key: str) -> Mapping[str, str]:
        declared = self.run.asset.reads[read]
        return {
            partition: self.run.lake.file(declared.asset, partition, version)
            for partition, version in self.versions(read, key).items()
        }

    def landed(self, key: str) -> list[tuple[str, bytes]]:
        """Names and bytes of the landed files of a partition, as they were when the run was planned."""
        read = next(r for r in self.run.asset.reads.values() if r.asset.startswith(LANDED))
        landed = self.run._landed(read)
        number = ordinal(key)
        found = self.run.workspace.landing.read(landed.files[number], landed.digests[number])
        if found is None:
            raise _Moved(f"{', '.join(landed.files[number])} changed while it was read")
        return found

    def all_versions(self, key: str) -> dict[str, dict[str, str]]:
        """Input versions by asset and partition, as they stand in the record of a value."""
        whole: dict[str, dict[str, str]] = {}
        for name, read in self.run.asset.reads.items():
            whole.setdefault(read.asset, {}).update(self.versions(name, key))
        return whole


class _TableCache:
    """Tables that were read or made in this run, least recently used first, up to a number of bytes."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self.tables: OrderedDict[tuple[str, str, str, tuple[str, ...] | None], pl.DataFrame] = OrderedDict()
        self.bytes = 0.0

    def get(self, asset: str, partition: str, version: str, columns: tuple[str, ...] | None) -> pl.DataFrame:
        whole = self.tables.get((asset, partition, version, None))
        if whole is not None:
            self.tables.move_to_end((asset, partition, version, None))
            return whole.select(columns) if columns is not None else whole
        key = (asset, partition, version, columns)
        table = self.tables.get(key)
        if table is None:
            table = self.lake.read(asset, partition, version, columns)
            self._keep(key, table)
        else:
            self.tables.move_to_end(key)
        return table

    def put(self, asset: str, partition: str, version: str, table: pl.DataFrame) -> None:
        self._keep((asset, partition, version, None), table)

    def _keep(self, key: tuple[str, str, str, tuple[str, ...] | None], table: pl.DataFrame) -> None:
        self.tables[key] = table
        self.bytes += table.estimated_size()
        while self.bytes > _CACHE_BYTES and len(self.tables) > 1:
            _, gone = self.tables.popitem(last=False)
            self.bytes -= gone.estimated_size()


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
