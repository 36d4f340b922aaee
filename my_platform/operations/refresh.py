"""Refresh: bring everything up to date with as few Dagster runs as it takes, and none when nothing is owed."""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from my_platform.incremental.planner import Action, Entry, Node, State, plan_asset
from my_platform.operations.check_results import follow, settle, to_settle
from my_platform.operations.execution import Execution
from my_platform.operations.faults import MOST_TRIES, wait_before, wait_s
from my_platform.operations.outcome import Heads, Outcome, Request, go_on
from my_platform.operations.platform import Workspace
from my_platform.storage.lake import partition_key
from my_platform.storage.objects import sweep_spill
from my_platform.storage.traffic import Requests

_MOST_ROUNDS = 50
_OPEN = (Action.COMPUTE, Action.REUSE, Action.WITHDRAW)
_DOING = (*_OPEN, Action.LATER, Action.POSSIBLE, Action.WAITING, Action.REFUSED)


@dataclass(frozen=True)
class Order:
    """What ``refresh`` tells the run that it launches in its own process, and where the run answers."""

    allowed: Callable[[Node, int], bool] | None
    outcome: Outcome
    on_partition: Callable[[str, str, str], None] | None = None


@dataclass
class Report:
    """What a refresh did."""

    outcome: Outcome = field(default_factory=Outcome)
    runs: int = 0
    seconds: float = 0.0
    damaged: list[str] = field(default_factory=list)
    unusable: dict[str, str] = field(default_factory=dict)
    misnamed: dict[str, str] = field(default_factory=dict)
    unfinished: list[str] = field(default_factory=list)
    requests: Requests | None = None

    @property
    def problems(self) -> list[str]:
        """All that somebody has to see to, in words."""
        failed = [reason for reasons in self.outcome.failed.values() for reason in reasons.values()]
        return [*failed, *self.unusable.values()]

    def as_json(self) -> dict[str, Any]:
        """The shape that the command line prints."""
        return {
            "computed": {asset: sorted(keys) for asset, keys in sorted(self.outcome.computed.items())},
            "reused": {asset: sorted(keys) for asset, keys in sorted(self.outcome.reused.items())},
            "withdrawn": {asset: sorted(keys) for asset, keys in sorted(self.outcome.withdrawn.items())},
            "failed": {
                asset: dict(sorted(found.items())) for asset, found in sorted(self.outcome.failed.items())
            },
            **({"damaged": self.damaged} if self.damaged else {}),
            **({"unusable": self.unusable} if self.unusable else {}),
            **({"misnamed": self.misnamed} if self.misnamed else {}),
            **({"unfinished": self.unfinished} if self.unfinished else {}),
            "runs": self.runs,
            "seconds": round(self.seconds, 3),
            **({"bucket": self.requests.as_json()} if self.requests is not None else {}),
        }


@dataclass(frozen=True)
class Planned:
    """Entries of all assets, parents first, with the states they were planned on."""

    entries: list[Entry]
    states: dict[str, State]


def look_ahead(
    workspace: Workspace,
    heads: Heads,
    allowed: Callable[[Node, int], bool] | None = None,
    *,
    verify: bool = False,
) -> Planned:
    """Plan the whole project on what has landed and what is current now; computes nothing."""
    workspace.look(verify=verify)
    return plan_as_it_is(workspace, heads, allowed)


def plan_as_it_is(
    workspace: Workspace, heads: Heads, allowed: Callable[[Node, int], bool] | None = None
) -> Planned:
    """The same on the landed files that were looked at last."""
    states = workspace.source_states()
    current = heads.read([node.name for node in workspace.project.order])
    entries: list[Entry] = []
    for node in workspace.project.order:
        past = workspace.lake.past(
            node.name,
            node.grain,
            node.code,
            current.get(node.name, {}),
            heads,
        )
        state, found = plan_asset(node, states, past, *workspace.domain(node), allowed)
        states[node.name] = state
        entries.extend(found)
    return Planned(entries, states)


def bring_up_to_date(
    workspace: Workspace,
    heads: Heads,
    allowed: Callable[[Node, int], bool] | None = None,
    *,
    run_id: str = "",
    on_partition: Callable[[str, str, str], None] | None = None,
    log: Callable[[str], None] = lambda _: None,
    stop: Callable[[], bool] = go_on,
    aside: bool = False,
) -> Outcome:
    """Compute what is owed, within a Dagster run: again and again until nothing is open.

    One pass does all of it, unless an input moved meanwhile or a stored value turned out to be damaged. What
    storage or network failed is tried again, a few times and later each time.

    Args:
        stop: asked after each partition; where it says so, the rest is left for another run.
        aside: that the heads are a candidate's; see ``Request``.
    """
    outcome = Outcome()
    planned = Planned([], {})
    tries = 1
    for _ in range(_MOST_ROUNDS):
        outcome.interrupted.clear()
        planned = look_ahead(workspace, heads, allowed)
        open_entries = _still_open(workspace, planned.entries, outcome)
        if not open_entries or stop():
            break
        busy = frozenset(entry.asset for entry in planned.entries if entry.action in _DOING)
        request = Request(busy, allowed, run_id=run_id, stop=stop, aside=aside)
        done = Execution(workspace, heads, request, on_partition=on_partition, log=log).run()
        outcome.add(done)
        if outcome.faults and tries < MOST_TRIES and not stop():
            tries += 1
            log(
                f"{len(outcome.faults)} partitions are tried again in {wait_s(tries):.1f} s: {_some_fault(outcome)}"
            )
            wait_before(tries, stop)
            outcome.open_again()
        elif not done.made_progress:
            break
    if aside:
        return outcome
    # Of what the run may not change, it must not tell what is no longer so either.
    follow(
        workspace,
        heads,
        outcome,
        lambda: (planned if allowed is None else plan_as_it_is(workspace, heads)).entries,
    )
    settle(workspace, heads, to_settle(workspace, lambda: planned.entries, allowed))
    return outcome


def refresh(
    workspace: Workspace,
    heads: Heads,
    launch: Callable[[Order], None],
    *,
    allowed: Callable[[Node, int], bool] | None = None,
    retry: bool = False,
    verify: bool = False,
    on_plan: Callable[[int], None] = lambda _: None,
    on_partition: Callable[[str, str, str], None] | None = None,
) -> Report:
    """Compute what is owed, in one Dagster run, and in none when nothing is.

    Args:
        launch: executes a Dagster run that does what the order says.
        allowed: partitions that may change; the others are used as they are. None for all.
        retry: run again what was refused.
        verify: hash every landed file and check the bytes of every current value.
        on_plan: told how many partitions are computed for certain, before the run.
        on_partition: told of each partition as it becomes current.
    """
    started = time.perf_counter()
    report = Report()
    asked = workspace.requests
    workspace.lake.sweep()
    sweep_spill(workspace.memory.spill)
    if workspace.lake.index.is_empty():
        workspace.lake.rebuild_index()
    if retry:
        workspace.lake.index.forget_refusals()
    if verify:
        report.damaged = workspace.lake.verify(heads.read([node.name for node in workspace.project.order]))
    planned = look_ahead(workspace, heads, allowed, verify=verify)
    if still_s := workspace.unfinished_s:
        # Once: a file that goes on growing has not landed, and one that stands still is taken as it is.
        time.sleep(still_s)
        planned = look_ahead(workspace, heads, allowed)
    if any(entry.action is Action.WITHDRAW for entry in planned.entries):
        planned = withdraw_gone(workspace, heads, allowed, report.outcome)
    to_do = _still_open(workspace, planned.entries, report.outcome)
    if to_do or to_settle(workspace, lambda: planned.entries, allowed):
        on_plan(sum(entry.action in (Action.COMPUTE, Action.LATER) for entry in planned.entries))
        order = Order(allowed, report.outcome, on_partition)
        report.runs += 1
        launch(order)
        planned = look_ahead(workspace, heads, allowed)
    for entry in planned.entries:
        if entry.action is Action.REFUSED:
            partition = partition_key(workspace.project.assets[entry.asset].grain, entry.key)
            report.outcome.failed.setdefault(entry.asset, {})[partition] = entry.reason
    for landed in workspace.landed.values():
        report.unusable |= landed.unusable
        report.misnamed |= landed.misnamed
        report.unfinished += [f"{workspace.landing.place.root}/{path}" for path in landed.unfinished]
    report.seconds = time.perf_counter() - started
    if asked is not None:
        report.requests = (workspace.requests or asked) - asked
    return report


def withdraw_gone(
    workspace: Workspace,
    heads: Heads,
    allowed: Callable[[Node, int], bool] | None = None,
    outcome: Outcome | None = None,
) -> Planned:
    """Withdraw what has lost its inputs, seen while nobody else can make anything current."""
    with heads.commit_section():
        planned = look_ahead(workspace, heads, allowed)
        for entry in planned.entries:
            if entry.action is Action.WITHDRAW:
                partition = partition_key(workspace.project.assets[entry.asset].grain, entry.key)
                heads.withdraw(entry.asset, partition)
                workspace.lake.index.settle(entry.asset, [partition])
                if outcome is not None:
                    outcome.withdrawn.setdefault(entry.asset, []).append(partition)
    return planned


def _some_fault(outcome: Outcome) -> str:
    asset, partition = next(iter(outcome.faults.values()))
    return outcome.failed[asset][partition]


def _still_open(workspace: Workspace, entries: Collection[Entry], outcome: Outcome) -> list[Entry]:
    """What can be done now, without what has failed or was withdrawn already."""
    return [
        entry
        for entry in entries
        if entry.action in _OPEN
        and entry.fingerprint not in outcome.stopped
        and not (
            entry.action is Action.WITHDRAW
            and partition_key(workspace.project.assets[entry.asset].grain, entry.key)
            in outcome.withdrawn.get(entry.asset, ())
        )
    ]
