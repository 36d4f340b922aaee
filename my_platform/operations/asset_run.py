"""One asset within a run: what is owed of it is computed, stored, and made current.

Every value is stored under its fingerprint before anything else happens; then, under a lock that the kernel
releases when its holder dies, the inputs' heads are read once more, and only if none has moved the value
becomes the head.
"""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import polars as pl

from my_platform.errors import DamagedObject, PlatformError, Refused, StorageUnavailable
from my_platform.incremental.checks import CheckResult
from my_platform.incremental.declare import DETERMINISTIC, Asset, Produced, Publication, ordinal
from my_platform.incremental.planner import Action, Entry, Node, Past, State, fall_back, waits_for
from my_platform.operations.batch import InputBatch
from my_platform.operations.check_results import of_refused, stored_results
from my_platform.operations.faults import is_infrastructure
from my_platform.operations.inputs import InputMoved, Inputs
from my_platform.operations.meter import Meter, Spent
from my_platform.operations.outcome import Heads, Outcome, Request
from my_platform.operations.platform import Workspace
from my_platform.operations.provenance import cause_of, provenance
from my_platform.operations.table_cache import TableCache
from my_platform.storage.lake import ABSENT, partition_key
from my_platform.storage.objects import BucketStore
from my_platform.storage.trace_index import Cost, Trace

_FLUSH_PARTITIONS = 32
_FLUSH_S = 1.0
_DEVICE_SECONDS = ("gpu_seconds", "gpu_idle_seconds", "gpu_waited_seconds")


class Running(Protocol):
    """The run that an asset is part of."""

    workspace: Workspace
    heads: Heads
    request: Request
    outcome: Outcome
    cache: TableCache
    states: dict[str, State]
    stale: dict[str, set[int]]
    refused: dict[str, dict[int, str]]
    on_partition: Callable[[str, str, str], None]
    log: Callable[[str], None]

    def past(self, node: Node, heads: Mapping[str, str]) -> Past:
        """What is known of an asset."""
        ...


@dataclass(frozen=True)
class _Value:
    """A stored value that is to become current.

    Attributes:
        metadata: what its function said of it.
        created: whether this run computed it.
        checks: how it answers the checks; where it was found, its record tells.
    """

    entry: Entry
    trace: Trace
    metadata: Mapping[str, Any]
    created: bool
    checks: Sequence[CheckResult] = ()


class AssetRun:
    """One asset within a run."""

    def __init__(
        self,
        execution: Running,
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
        self.inputs = Inputs(
            self.workspace, node, execution.states, execution.stale, execution.refused, past.accepted
        )
        self.refused: list[Entry] = []
        self.pending: list[_Value] = []
        self.costs: list[Cost] = []
        self.results: dict[str, Sequence[CheckResult]] = {}
        self.turned_away: dict[str, Sequence[CheckResult]] = {}
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
        if self.execution.request.aside:
            return
        for partition in self.turned_away:
            self.lake.index.dispute(self.node.name, partition)
        self._judge(self.turned_away)

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
            now = self.inputs.now(self.execution.heads)
            for entry in entries:
                partition = partition_key(self.node.grain, entry.key)
                moved = self.inputs.moved(entry, now)
                if moved is None and now[self.node.name].get(partition) != self.heads.get(partition):
                    moved = self._named(partition)
                if moved is not None:
                    self._leave_for_next_pass(entry, partition, f"{moved} moved before this was withdrawn")
                    continue
                self.execution.heads.withdraw(self.node.name, partition)
                if not self.execution.request.aside:
                    self.lake.index.settle(self.node.name, [partition])
                self.outcome.withdrawn.setdefault(self.node.name, []).append(partition)
                self.heads[partition] = ABSENT

    def _go_back(self) -> None:
        """Partitions whose inputs were refused in this run keep to those that were accepted last."""
        refused, self.refused = self.refused, []
        if not refused:
            return
        partitions = [partition_key(self.node.grain, entry.key) for entry in refused]
        past = self.execution.past(self.node, {p: self.heads[p] for p in partitions if p in self.heads})
        self.inputs.accepted |= past.accepted
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
        if self.asset.gpus and isinstance(self.lake.store, BucketStore):
            # Another machine may have computed it anew, to another value.
            self._adopt(entry, compute)
            return
        if not self.lake.store.exists(self.lake.path(self.node.name, partition, entry.fingerprint)):
            self.lake.index.forget(self.node.name, partition, entry.fingerprint)
            compute.append(entry)
            return
        self.state.set(entry.key, bytes.fromhex(entry.version))
        trace = self.lake.index.trace(self.node.name, partition, entry.fingerprint)
        if trace is None:
            compute.append(entry)
            return
        self._queue(_Value(entry, trace, {}, created=False))

    def _adopt(self, entry: Entry, compute: list[Entry]) -> None:
        partition = partition_key(self.node.grain, entry.key)
        trace = self.lake.adopt(self.node.name, partition, entry.fingerprint)
        if trace is None:
            compute.append(entry)
            return
        self.state.set(entry.key, bytes.fromhex(trace.data_version))
        if self.heads.get(partition) != trace.data_version:
            self._queue(_Value(entry, trace, {}, created=False))

    def batch(self, entries: Sequence[Entry]) -> InputBatch:
        """Partitions to be computed in one call."""
        by_partition = {partition_key(self.node.grain, entry.key): entry for entry in entries}
        return InputBatch(self.inputs, self.execution.cache, by_partition)

    def compute(self, entries: list[Entry]) -> None:
        batch = self.batch(entries)
        left = dict(batch.entries)
        stop = self.execution.request.stop
        meter = Meter(self.workspace)
        try:
            for partition, made in self.asset.compute(batch) if not stop() else ():
                self.take(left[partition], partition, made, batch, meter.read())
                del left[partition], made
                self.execution.cache.tidy()
                if stop():
                    break
                meter.start()
        except StorageUnavailable as error:
            # Nothing else of the run would fare better. What it has stored becomes current now, if its inputs can be
            # looked at, or with the next run.
            with contextlib.suppress(StorageUnavailable):
                self.flush()
            raise error.needed_by(self._named(next(iter(left), ""))) from error
        except Exception as error:
            self.flush()
            self._broken(left, error)
        else:
            self.flush()
            for partition, entry in left.items():
                if stop():
                    self._leave_for_next_pass(
                        entry, partition, "the run was stopped before this was computed"
                    )
                    continue
                self._failed(entry, partition, PlatformError("the function gave no value for this partition"))

    def take(
        self, entry: Entry, partition: str, made: Produced | Exception, batch: InputBatch, spent: Spent
    ) -> None:
        """Store a value, or record why there is none."""
        if isinstance(made, StorageUnavailable):
            raise made
        if isinstance(made, Produced):
            self._commit(entry, partition, made, batch, spent)
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
        if isinstance(error, DamagedObject | InputMoved):
            self._leave_for_next_pass(entry, partition, str(error))
            return
        self.state.set(entry.key, self._head(partition))
        self.outcome.stopped.add(entry.fingerprint)
        reason = str(error) if isinstance(error, PlatformError) else f"{type(error).__name__}: {error}"
        reason = f"{self._named(partition)}: {reason}"
        if isinstance(error, (Refused, pl.exceptions.PolarsError, *DETERMINISTIC)):
            reason = self._refuse(entry, partition, error, reason)
        elif is_infrastructure(error):
            # It may pass in a moment: what reads it waits, instead of being computed without it.
            self.state.set(entry.key, None, pending=True)
            self.outcome.faults[entry.fingerprint] = (self.node.name, partition)
        if isinstance(error, Refused) and error.checks:
            self.turned_away[partition] = of_refused(error.checks, reason)
        self._say(self.outcome.failed, partition, reason)

    def _refuse(self, entry: Entry, partition: str, error: Exception, reason: str) -> str:
        """Record that inputs are refused, with the rows for which they are; the reason with all that is known."""
        same = self.inputs.same_content(entry)
        if same:
            reason = f"{reason}. {same}"
        metadata = {"refused": reason, "fingerprint": entry.fingerprint}
        if isinstance(error, Refused):
            metadata |= error.metadata
            if error.rows is not None:
                self.lake.keep_refused(self.node.name, partition, entry.fingerprint, error.rows)
        self.execution.heads.refuse(self.node.name, partition, metadata)
        self.lake.index.refuse(self.node.name, partition, entry.fingerprint, reason)
        self.execution.refused.setdefault(self.node.name, {})[entry.key] = reason
        if not entry.accepted:
            self.refused.append(entry)
        return reason

    def _commit(self, entry: Entry, partition: str, made: Produced, batch: InputBatch, spent: Spent) -> None:
        inputs = batch.all_versions(partition)
        code = self.workspace.project.code_versions[self.node.name]
        record: dict[str, Any] = {
            "inputs": inputs,
            "run_id": self.execution.request.run_id,
            **spent.as_record(self.asset.gpus),
        }
        if made.checks:
            record["checks"] = [result.as_json() for result in made.checks]
        if made.notes:
            record["notes"] = dict(made.notes)
        committed = self.lake.commit(
            self.node.name,
            partition,
            entry.fingerprint,
            made.table if made.parts is None else made.parts,
            record,
            code_version=code,
            seconds=spent.wall_s,
            quarantined=made.quarantined,
        )
        trace = committed.trace
        self.costs.append(committed.cost)
        if committed.created and made.parts is None:
            self.execution.cache.put(self.node.name, partition, trace.data_version, made.table)
        metadata = {
            **made.metadata,
            "peak_memory_bytes": spent.peak_bytes,
            **{name: record[name] for name in _DEVICE_SECONDS if name in record},
        }
        if self.workspace.requests is not None:
            # Those of its function, and the one that stored the value.
            metadata |= {"bucket_requests": spent.requests + 1, "bucket_bytes_read": spent.read_bytes}
        if self._is_published:
            self.lake.index.add([trace])
            metadata |= self._publish(trace, made.table)
        self.state.set(entry.key, bytes.fromhex(trace.data_version))
        self._queue(_Value(entry, trace, metadata, committed.created, made.checks))

    def _queue(self, value: _Value) -> None:
        trace = value.trace
        if not value.created and self._is_published:
            table = self.lake.read(self.node.name, trace.partition, trace.data_version)
            value = replace(value, metadata={**value.metadata, **self._publish(trace, table)})
        if not value.created and self.asset.own_checks:
            value = replace(value, checks=self._stored_results(trace))
        self.pending.append(value)
        expensive = value.created and trace.seconds > _FLUSH_S
        late = time.monotonic() - self.flushed_at > _FLUSH_S
        if expensive or late or len(self.pending) >= _FLUSH_PARTITIONS:
            self.flush()

    @property
    def _is_published(self) -> bool:
        return self.asset.publish is not None and not self.execution.request.aside

    def _publish(self, trace: Trace, table: pl.DataFrame) -> Mapping[str, Any]:
        assert self.asset.publish is not None
        record = self.lake.record(self.node.name, trace.partition, trace.data_version)
        if record is None:
            raise DamagedObject(f"{self._named(trace.partition)}", "the value is not in the store any more")
        code = self.workspace.project.code_of(self.node.name)
        return self.asset.publish(
            Publication(
                self.node.name,
                trace.partition,
                table,
                record,
                self.lake.record,
                code,
                self.workspace.why_fitted(self.node.name, ordinal(trace.partition)),
            )
        )

    def flush(self) -> None:
        """Make the stored values current whose inputs have not moved since they were read."""
        self.flushed_at = time.monotonic()
        if not self.pending:
            return
        self.lake.index.add([value.trace for value in self.pending if value.created], self.costs)
        self.costs.clear()
        reused = sum(not value.created for value in self.pending)
        with self.execution.heads.commit_section():
            now = self.inputs.now(self.execution.heads)
            for value in self.pending:
                self._make_current(value, now)
            self._tell_checks()
        self.pending.clear()
        if reused:
            self.lake.index.add_reused(self.node.name, reused)

    def _make_current(self, value: _Value, now: Mapping[str, Mapping[str, str]]) -> None:
        entry, trace, created = value.entry, value.trace, value.created
        partition = trace.partition
        moved = self.inputs.moved(entry, now)
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
            why = cause_of(self.inputs, entry, partition, self.heads.get(partition), self.execution.heads)
            about = provenance(self.inputs, entry, trace, cause=why, reused=not created)
            metadata = {**value.metadata, **about}
            self.execution.heads.emit(self.node.name, partition, trace.data_version, metadata)
            self.results[partition] = value.checks
        self.heads[partition] = trace.data_version
        self.touched.add(partition)
        kind.setdefault(self.node.name, []).append(partition)
        self.execution.on_partition(self.node.name, partition, "computed" if created else "reused")

    def _answer_for_fresh(self) -> None:
        """Events for the partitions that a person asked for and that this run has not made current."""
        if not self.execution.request.insist.get(self.node.name):
            return
        with self.execution.heads.commit_section():
            self._answer(self.execution.heads.read([self.node.name])[self.node.name])
            self._tell_checks()

    def _tell_checks(self) -> None:
        """Tell how the values that have just become current answer the checks of the asset."""
        if self.execution.request.aside:
            self.results.clear()
            return
        self._judge(self.results)
        if self.asset.own_checks and self.results:
            self.lake.index.settle(self.node.name, self.results)
        self.results.clear()

    def _stored_results(self, trace: Trace) -> list[CheckResult]:
        return stored_results(self.lake, trace.asset, trace.partition, trace.fingerprint)

    def _judge(self, results: Mapping[str, Sequence[CheckResult]]) -> None:
        if any(results.values()):
            self.execution.heads.judge(self.node.name, dict(results))

    def _answer(self, now: Mapping[str, str]) -> None:
        failed = self.outcome.failed.get(self.node.name, {})
        waiting = self.outcome.waiting.get(self.node.name, {})
        interrupted = self.outcome.interrupted.get(self.node.name, {})
        awaited = self.node.name in self.execution.request.awaited
        for partition in self.execution.request.insist.get(self.node.name, ()):
            if partition in self.touched or partition in interrupted:
                continue
            if partition in failed:
                if awaited:
                    self._stand_in(partition, now.get(partition, ABSENT), failed[partition])
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
                if awaited:
                    self._stand_in(partition, ABSENT, self.outcome.waiting[self.node.name][partition])
                continue
            fingerprint = self.lake.index.find(self.node.name, partition, version.hex())[0]
            trace = self.lake.index.trace(self.node.name, partition, fingerprint)
            assert trace is not None
            fresh = Entry(self.node.name, key, Action.REUSE, fingerprint, version.hex())
            about = provenance(
                self.inputs, fresh, trace, cause="fresh: nothing it reads has changed", reused=True
            )
            self.execution.heads.emit(self.node.name, partition, version.hex(), about)
            if self.asset.own_checks:
                self.results[partition] = self._stored_results(trace)
            self.outcome.reused.setdefault(self.node.name, []).append(partition)

    def _stand_in(self, partition: str, version: str, reason: str) -> None:
        """An event that leaves the head as it is, for a partition that could not be computed."""
        made_by = self.execution.heads.made_by(self.node.name, partition) if version != ABSENT else None
        about = {"not computed": reason, **({"fingerprint": made_by} if made_by else {})}
        self.execution.heads.emit(self.node.name, partition, version, about)

    def _head(self, partition: str) -> bytes | None:
        version = self.heads.get(partition, ABSENT)
        found = version != ABSENT and self.lake.index.find(self.node.name, partition, version)
        return bytes.fromhex(version) if found else None

    def _named(self, partition: str) -> str:
        return f"{self.node.name} {partition}".strip()

    def _say(self, where: dict[str, dict[str, str]], partition: str, reason: str) -> None:
        where.setdefault(self.node.name, {})[partition] = reason
        self.execution.log(f"{self._named(partition)}: {reason}")
