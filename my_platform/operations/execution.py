"""Execution: a run takes assets and partitions, computes what is owed among them, and makes it current.

A run takes what it is given: parents that were not selected are used as they are.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from my_platform.errors import StorageUnavailable
from my_platform.incremental.declare import Produced
from my_platform.incremental.planner import Action, Entry, Node, Past, State, plan_asset
from my_platform.operations.asset_run import AssetRun
from my_platform.operations.batch import InputBatch
from my_platform.operations.meter import Meter
from my_platform.operations.outcome import Heads, Outcome, Request
from my_platform.operations.platform import Project, Workspace
from my_platform.operations.table_cache import TableCache

_CHANGES = (Action.COMPUTE, Action.REUSE, Action.LATER, Action.POSSIBLE, Action.WITHDRAW)

# What is kept of values that were computed together, beside the next ones.
_KEPT_AND_MADE = 4.0


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
        self.cache = TableCache(workspace.lake, workspace.memory.cached_bytes)
        self.states: dict[str, State] = {}
        self.stale: dict[str, set[int]] = {}
        self.refused: dict[str, dict[int, str]] = {}

    def run(self) -> Outcome:
        """Bring the requested assets up to date, parents first; failures are in the outcome, not raised."""
        project = self.workspace.project
        self.workspace.look()
        self.states = self.workspace.source_states()
        names = project.ancestors(sorted(self.request.assets))
        heads = self.heads.read(sorted(names))
        nodes = [node for node in project.order if node.name in names]
        self.stale = self._stale(nodes, heads)
        try:
            for group in _groups(project, nodes):
                runs = [run for node in group if (run := self._plan(node, heads)) is not None]
                if len(runs) > 1:
                    _run_together(runs)
                elif runs:
                    runs[0].run()
        finally:
            self.cache.close()
        return self.outcome

    def _plan(self, node: Node, heads: Mapping[str, Mapping[str, str]]) -> AssetRun | None:
        """The state of an asset after its parents, and what is to be done if it is one of those asked for."""
        selected = node.name in self.request.assets
        past = self.past(node, heads.get(node.name, {}))
        state, entries = plan_asset(
            node, self.states, past, *self.workspace.domain(node), self._allowed(node, selected)
        )
        self.states[node.name] = state
        self._note_refused(node, entries)
        return AssetRun(self, node, state, entries, heads.get(node.name, {}), past) if selected else None

    def past(self, node: Node, heads: Mapping[str, str]) -> Past:
        """What is known of an asset."""
        return self.workspace.lake.past(
            node.name,
            node.grain,
            node.code,
            heads,
            self.heads,
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
            self._note_refused(node, entries)
            stale[node.name] = {
                entry.key
                for entry in entries
                if entry.action in _CHANGES and not self.request.allowed(node, entry.key)
            }
        return stale

    def _note_refused(self, node: Node, entries: Sequence[Entry]) -> None:
        """Partitions whose present inputs were refused: what reads them reads the last good version."""
        for entry in entries:
            if entry.action is Action.REFUSED:
                self.refused.setdefault(node.name, {})[entry.key] = entry.reason

    def _allowed(self, node: Node, selected: bool) -> Callable[[Node, int], bool] | None:
        if self.request.allowed is not None:
            return self.request.allowed
        return None if selected else lambda _node, _key: False


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


def _run_together(runs: Sequence[AssetRun]) -> None:
    """Compute several assets in one call; one by one where that fails, to tell whose fault it is."""
    todo = {run.node.name: (run, compute) for run in runs if (compute := run.settle())}
    if len(todo) > 1 and not runs[0].execution.request.stop():
        batches = {name: run.batch(compute) for name, (run, compute) in todo.items()}
        together = next(iter(todo.values()))[0].asset.together
        assert together is not None
        try:
            _take_together(todo, batches, together[1](batches))
        except StorageUnavailable:
            with contextlib.suppress(StorageUnavailable):
                for run in runs:
                    run.flush()
            raise
    for run in runs:
        left = todo[run.node.name][1] if run.node.name in todo else []
        if left:
            run.compute(left)
        run.finish()


def _take_together(
    todo: Mapping[str, tuple[AssetRun, list[Entry]]],
    batches: Mapping[str, InputBatch],
    made: Iterable[tuple[str, str, Produced | Exception]],
) -> None:
    """Store what was computed in one call, at an equal share of its cost; what is stored is taken off the entries.

    Values are kept until the call has ended, unless they are too large for that.
    """
    workspace = next(iter(todo.values()))[0].workspace
    meter = Meter(workspace)
    kept: list[tuple[str, str, Produced | Exception]] = []

    def store() -> None:
        spent = meter.read().shared(len(kept))
        for name, partition, value in kept:
            run, entries = todo[name]
            entry = batches[name].entries[partition]
            run.take(entry, partition, value, batches[name], spent)
            entries.remove(entry)
        kept.clear()
        meter.start()

    size = 0.0
    for name, partition, value in _until_it_fails(made, next(iter(todo.values()))[0].execution.log):
        kept.append((name, partition, value))
        size += int(value.table.estimated_size()) if isinstance(value, Produced) else 0
        in_files = isinstance(value, Produced) and value.parts is not None
        if in_files or not workspace.memory.fits(size * _KEPT_AND_MADE):
            store()
            size = 0.0
    store()


def _until_it_fails(
    made: Iterable[tuple[str, str, Produced | Exception]], log: Callable[[str], None]
) -> Iterator[tuple[str, str, Produced | Exception]]:
    try:
        yield from made
    except StorageUnavailable:
        raise
    except Exception as error:
        log(f"computed one by one, because together they failed: {error}")
