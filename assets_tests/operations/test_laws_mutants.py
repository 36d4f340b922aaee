"""Planted mistakes: each is one that a platform of this kind can make, and the laws tell every one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assets_tests.incremental.histories import HISTORIES
from assets_tests.incremental.world import LawBroken, MemoryHeads, SeenHeads, SeenStore
from my_platform.incremental import planner
from my_platform.incremental.declare import Grain
from my_platform.operations import execution, platform
from my_platform.operations.asset_run import AssetRun
from my_platform.operations.inputs import Inputs
from my_platform.storage import accepted
from my_platform.storage import lake as lakes
from my_platform.storage import landing as landings
from my_platform.storage.lake import Lake
from my_platform.storage.objects import FolderStore
from my_platform.storage.trace_index import TraceIndex

Hit = Callable[[], None]
Plant = Callable[[pytest.MonkeyPatch, Hit], None]


@dataclass(frozen=True)
class Mutant:
    """A planted mistake, the history that shows it, and the law that is broken."""

    plant: Plant
    history: str
    law: str


MUTANTS: dict[str, Mutant] = {}


def mutant(history: str, law: str) -> Callable[[Plant], Plant]:
    def add(plant: Plant) -> Plant:
        MUTANTS[plant.__name__] = Mutant(plant, history, law)
        return plant

    return add


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_mistake_is_told(name: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    hits: list[None] = []
    MUTANTS[name].plant(monkeypatch, lambda: hits.append(None))
    with pytest.raises(LawBroken) as broken:
        HISTORIES[MUTANTS[name].history](folder)
    assert hits, "the mistake was never made"
    assert broken.value.law == MUTANTS[name].law, str(broken.value)


# Windows


def _span(change: Callable[[Any, Any, Any], tuple[Any, Any]]) -> Plant:
    def plant(monkeypatch: pytest.MonkeyPatch, hit: Hit) -> None:
        real = planner.State.span

        def span(self: planner.State, keys: np.ndarray, read: planner.Read) -> tuple[np.ndarray, np.ndarray]:
            low, high = real(self, keys, read)
            if self.grain is Grain.ONCE or read.asset.startswith("landing:"):
                return low, high
            hit()
            return change(low, high, read)

        monkeypatch.setattr(planner.State, "span", span)

    return plant


@mutant("windows_have_their_first_and_their_last_day", "sound")
def a_window_lacks_its_first_day(monkeypatch: pytest.MonkeyPatch, hit: Hit) -> None:
    _span(lambda low, high, read: (np.minimum(low + (read.first < read.last), high), high))(monkeypatch, hit)


@mutant("windows_have_their_first_and_their_last_day", "sound")
def a_window_lacks_its_last_day(monkeypatch: pytest.MonkeyPatch, hit: Hit) -> None:
    _span(lambda low, high, read: (low, np.maximum(high - (read.first < read.last), low)))(monkeypatch, hit)


@mutant("windows_have_their_first_and_their_last_day", "sound")
def a_window_has_a_day_too_many(monkeypatch: pytest.MonkeyPatch, hit: Hit) -> None:
    _span(lambda low, high, _read: (low - 1, high))(monkeypatch, hit)


@mutant("a_week_reads_more_than_a_hundred_days", "exact")
def wide_windows_do_not_count_in_the_fingerprint(monkeypatch: pytest.MonkeyPatch, hit: Hit) -> None:
    _without_slices(monkeypatch, hit, lambda _self, n, low, high: (high[n] - low[n]) // 16 >= 100)


@mutant("windows_have_their_first_and_their_last_day", "exact")
def the_last_day_of_a_window_does_not_count(monkeypatch: pytest.MonkeyPatch, hit: Hit) -> None:
    real = planner._Windows.fingerprint

    def fingerprint(self: Any, prefix: bytes, key: int, slot: int) -> bytes:
        hit()
        kept = self._slices
        self._slices = [
            (
                header,
                buffer,
                low,
                [max(low[n], end - 16) if end - low[n] > 16 else end for n, end in enumerate(high)],
            )
            for header, buffer, low, high in kept
        ]
        try:
            return real(self, prefix, key, slot)
        finally:
            self._slices = kept

    monkeypatch.setattr(planner._Windows, "fingerprint", fingerprint)


def _without_slices(
    monkeypatch: pytest.MonkeyPatch, hit: Hit, dropped: Callable[[Any, int, list[int], list[int]], bool]
) -> None:
    real = planner._Windows.fingerprint

    def fingerprint(self: Any, prefix: bytes, key: int, slot: int) -> bytes:
        kept = self._slices
        self._slices = [s for s in kept if not dropped(self, slot, s[2], s[3])]
        if len(self._slices) < len(kept):
            hit()
        try:
            return real(self, prefix, key, slot)
        finally:
            self._slices = kept

    monkeypatch.setattr(planner._Windows, "fingerprint", fingerprint)


# Gaps


def _reads(monkeypatch: pytest.MonkeyPatch, hit: Hit, **changed: Any) -> None:
    real = planner._Windows.__init__

    def init(self: Any, node: planner.Node, states: Any, keys: np.ndarray) -> None:
        hit()
        real(
            self, replace(node, reads=tuple((n, replace(r, **changed)) for n, r in node.reads)), states, keys
        )

    monkeypatch.setattr(planner._Windows, "__init__", init)


@mutant("gaps_are_waited_for_or_passed_over", "exact")
def at_least_is_ignored(monkeypatch: pytest.MonkeyPatch, hit: Hit) -> None:
    real = planner._Windows.__init__

    def init(self: Any, node: planner.Node, states: Any, keys: np.ndarray) -> None:
        hit()
        few = tuple((n, replace(r, at_least=min(r.at_least, 1))) for n, r in node.reads)
        real(self, replace(node, reads=few), states, keys)

    monkeypatch.setattr(planner._Windows, "__init__", init)


@mutant("gaps_are_waited_for_or_passed_over", "exact")
def gaps_are_never_waited_for(monkeypatch: pytest.MonkeyPatch, hit: Hit) -> None:
    _reads(monkeypatch, hit, gaps="pass")


@mutant("gaps_are_waited_for_or_passed_over", "exact")
def gaps_are_always_waited_for(monkeypatch: pytest.MonkeyPatch, hit: Hit) -> None:
    _reads(monkeypatch, hit, gaps="wait")


@mutant("windows_have_their_first_and_their_last_day", "exact")
def days_before_the_first_one_are_waited_for(monkeypatch: pytest.MonkeyPatch, hit: Hit) -> None:
    def first_slot(self: planner.State) -> int:
        hit()
        return -1000

    monkeypatch.setattr(planner.State, "first_slot", property(first_slot))


@mutant("tombstones_come_and_go", "exact")
def days_that_are_gone_from_landing_live_on(monkeypatch: pytest.MonkeyPatch, hit: Hit) -> None:
    real = platform.Workspace.domain
    widest: dict[int, tuple[int, int]] = {}

    def domain(self: platform.Workspace, node: planner.Node) -> tuple[int, int]:
        first, last = real(self, node)
        before = widest.setdefault(0, (first, last))
        if node.grain is Grain.ONCE or first > last:
            return first, last
        if (first, last) != before:
            hit()
        widest[0] = min(first, before[0]), max(last, before[1])
        return widest[0] if node.grain is Grain.DAY else (first, last)

    monkeypatch.setattr(platform.Workspace, "domain", domain)


@mutant("tombstones_come_and_go", "exact")
def what_lost_its_inputs_stays_current(monkeypatch: pytest.MonkeyPatch, hit: Hit) -> None:
    def withdraw(self: SeenHeads, asset: str, partition: str) -> None:
        hit()

    monkeypatch.setattr(SeenHeads, "withdraw", withdraw)


# Fingerprints


@mutant("a_window_is_edited", "exact")
def parts_of_a_fingerprint_are_not_delimited(monkeypatch: pytest.MonkeyPatch, hit: Hit) -> None:
    def joined(*texts: str) -> bytes:
        hit()
        return "".join(texts).encode()

    monkeypatch.setattr(planner, "_delimited", joined)


@mutant("equal_days_and_empty_days_keep_their_own_identity", "fingerprint")
def the_partition_does_not_count(monkeypatch: pytest.MonkeyPatch, hit: Hit) -> None:
    real = planner._Windows.fingerprint

    def fingerprint(self: Any, prefix: bytes, key: int, slot: int) -> bytes:
        hit()
        return real(self, prefix, 0, slot)

    monkeypatch.setattr(planner._Windows, "fingerprint", fingerprint)


@mutant("code_is_edited", "exact")
def code_does_not_count(monkeypatch: pytest.MonkeyPatch, hit: Hit) -> None:
    real = planner._prefix

    def prefix(node: planner.Node) -> bytes:
        hit()
        return real(replace(node, code=""))

    monkeypatch.setattr(planner, "_prefix", prefix)


@mutant("a_change_that_comes_out_the_same_stops", "exact")
def there_is_no_early_cutoff(monkeypatch: pytest.MonkeyPatch, hit: Hit) -> None:
    """What is computed again makes its readers stale, whatever came out."""
    made: dict[tuple[str, str], str] = {}
    commit, plan_windows, fingerprint = Lake.commit, planner._Windows.__init__, planner._Windows.fingerprint

    def remembering(self: Lake, asset: str, partition: str, name: str, *args: Any, **options: Any) -> Any:
        made[asset, partition] = name
        return commit(self, asset, partition, name, *args, **options)

    def knowing(self: Any, node: planner.Node, states: Any, keys: np.ndarray) -> None:
        plan_windows(self, node, states, keys)
        self.deep = lambda key: repr(
            [
                made.get((read.asset, lakes.partition_key(states[read.asset].grain, k)))
                for _, read in node.reads
                for k in planner.window_keys(read, states[read.asset], key)
            ]
        )

    def deep(self: Any, prefix: bytes, key: int, slot: int) -> bytes:
        hit()
        return fingerprint(self, prefix + self.deep(key).encode(), key, slot)

    monkeypatch.setattr(Lake, "commit", remembering)
    monkeypatch.setattr(planner._Windows, "__init__", knowing)
    monkeypatch.setattr(planner._Windows, "fingerprint", deep)


@mutant("an_identical_file_lands_again", "exact")
def a_landed_file_is_known_by_its_time(monkeypatch: pytest.MonkeyPatch, hit: Hit) -> None:
    def known_by_inode(self: Any, listed: Any) -> bytes:
        hit()
        return listed.mark.to_bytes(16, "little")

    def still(self: Any, landed: Any, key: int) -> bool:
        return True

    def read(self: Any, landed: Any, key: int) -> Any:
        return [(path, self.place.read(path)) for path in landed.files[key]]

    monkeypatch.setattr(landings._Look, "_digest", known_by_inode)
    monkeypatch.setattr(landings.Landing, "still", still)
    monkeypatch.setattr(landings.Landing, "read", read)


# Traces


@mutant("a_day_is_corrected_and_reverted", "exact")
def what_could_be_reused_is_computed(monkeypatch: pytest.MonkeyPatch, hit: Hit) -> None:
    def reuse(self: AssetRun, entry: planner.Entry, compute: list[planner.Entry]) -> None:
        hit()
        compute.append(entry)

    monkeypatch.setattr(AssetRun, "_reuse", reuse)


@mutant("the_process_is_killed_anywhere", "exact")
def stored_values_without_a_row_in_the_index_are_not_adopted(
    monkeypatch: pytest.MonkeyPatch, hit: Hit
) -> None:
    def adopt(self: Lake, asset: str, partition: str, fingerprint: str) -> None:
        hit()

    monkeypatch.setattr(Lake, "adopt", adopt)


@mutant("objects_are_lost_and_damaged", "exact")
def a_trace_counts_without_its_object(monkeypatch: pytest.MonkeyPatch, hit: Hit) -> None:
    """A lost object is never noticed, because nobody reads what was stored."""
    kept: dict[tuple[str, str, str], Any] = {}
    commit = Lake.commit

    def keeping(
        self: Lake, asset: str, partition: str, name: str, table: Any, *args: Any, **options: Any
    ) -> Any:
        committed = commit(self, asset, partition, name, table, *args, **options)
        kept[asset, partition, committed.trace.data_version] = table
        return committed

    def from_memory(self: Lake, asset: str, versions: Mapping[str, str], columns: Any = None) -> Any:
        if versions:
            hit()
        return {partition: kept[asset, partition, version] for partition, version in versions.items()}

    monkeypatch.setattr(Lake, "commit", keeping)
    monkeypatch.setattr(Lake, "read_all", from_memory)


@mutant("objects_are_lost_and_damaged", "exact")
def damaged_bytes_are_not_noticed(monkeypatch: pytest.MonkeyPatch, hit: Hit) -> None:
    def check(data: bytes, path: str) -> None:
        hit()

    monkeypatch.setattr(lakes, "check_seal", check)
    monkeypatch.setattr("my_platform.storage.sealed.check_seal", check)


@mutant("a_refresh_is_overtaken_anywhere", "once")
def an_object_is_written_over(monkeypatch: pytest.MonkeyPatch, hit: Hit) -> None:
    real = FolderStore.create

    def create(self: FolderStore, path: str, data: bytes) -> bool:
        if self.exists(path):
            hit()
            self.delete(path)
        return real(self, path, data)

    monkeypatch.setattr(FolderStore, "create", create)
    assert SeenStore.create is not create


@mutant("code_is_edited", "foretold")
def the_plan_takes_old_values_of_parents_for_final(monkeypatch: pytest.MonkeyPatch, hit: Hit) -> None:
    real = planner._Windows.__init__

    def init(self: Any, node: planner.Node, states: Any, keys: np.ndarray) -> None:
        hit()
        real(self, node, states, keys)
        self.unknown[:] = False

    monkeypatch.setattr(planner._Windows, "__init__", init)


# Heads


@mutant("a_refresh_is_overtaken_anywhere", "head")
def moved_inputs_are_not_looked_at(monkeypatch: pytest.MonkeyPatch, hit: Hit) -> None:
    real = AssetRun._make_current

    def moved(self: Inputs, entry: planner.Entry, now: Any) -> None:
        hit()

    def make_current(self: AssetRun, value: Any, now: Any) -> None:
        partition = value.trace.partition
        self.heads[partition] = now.get(self.node.name, {}).get(partition)
        real(self, value, now)

    monkeypatch.setattr(Inputs, "moved", moved)
    monkeypatch.setattr(AssetRun, "_make_current", make_current)


@mutant("a_tombstone_is_overtaken_anywhere", "head")
def a_tombstone_is_set_without_a_second_look(monkeypatch: pytest.MonkeyPatch, hit: Hit) -> None:
    def withdraw(self: AssetRun, entries: list[planner.Entry]) -> None:
        for entry in entries:
            hit()
            partition = lakes.partition_key(self.node.grain, entry.key)
            self.execution.heads.withdraw(self.node.name, partition)
            self.heads[partition] = lakes.ABSENT

    monkeypatch.setattr(AssetRun, "_withdraw", withdraw)
    monkeypatch.setattr("my_platform.operations.refresh.withdraw_gone", _withdraw_at_once)


def _withdraw_at_once(workspace: Any, heads: Any, allowed: Any, outcome: Any) -> Any:
    from my_platform.operations.refresh import look_ahead

    return look_ahead(workspace, heads, allowed)


@mutant("what_is_reported_by_hand_is_seen_through", "sound")
def any_event_is_a_head(monkeypatch: pytest.MonkeyPatch, hit: Hit) -> None:
    """A partition is taken for fresh when it has an event at all."""
    real = planner.plan_asset

    def plan(node: Any, states: Any, past: Any, *args: Any) -> Any:
        state, entries = real(node, states, past, *args)
        hit()
        return state, [e for e in entries if e.action is not planner.Action.REUSE]

    monkeypatch.setattr(execution, "plan_asset", plan)
    monkeypatch.setattr("my_platform.operations.refresh.plan_asset", plan)


# Refusals


@mutant("a_broken_file_leaves_the_last_good_version", "idle")
def refusals_are_not_recorded(monkeypatch: pytest.MonkeyPatch, hit: Hit) -> None:
    def refuse(self: TraceIndex, *refused: str) -> None:
        hit()

    monkeypatch.setattr(TraceIndex, "refuse", refuse)
    monkeypatch.setattr(AssetRun, "_go_back", lambda _self: None)


@mutant("a_gate_refuses_and_the_code_changes", "exact")
def refused_partitions_keep_values_of_old_code(monkeypatch: pytest.MonkeyPatch, hit: Hit) -> None:
    real = Lake.past

    def past(self: Lake, *args: Any, **options: Any) -> Any:
        hit()
        return replace(real(self, *args, **options), accepted={})

    monkeypatch.setattr(Lake, "past", past)


@mutant("a_gate_keeps_to_the_inputs_that_were_accepted_last", "exact")
def accepted_inputs_are_those_of_any_equal_value(monkeypatch: pytest.MonkeyPatch, hit: Hit) -> None:
    def made_by(self: SeenHeads, asset: str, partition: str) -> None:
        hit()

    # Either would do: the event of the head names its inputs, and the events of those tell which were there last.
    monkeypatch.setattr(SeenHeads, "made_by", made_by)
    monkeypatch.setattr(SeenHeads, "history", lambda *_: [])
    assert MemoryHeads().fingerprints == {}


@mutant("inputs_that_came_back_are_kept_to_when_others_are_refused", "exact")
def accepted_inputs_are_those_of_the_last_event(monkeypatch: pytest.MonkeyPatch, hit: Hit) -> None:
    def first(records: Sequence[Mapping[str, Any]], _: object) -> Mapping[str, Any]:
        hit()
        return records[0]

    monkeypatch.setattr(accepted, "_current_last", first)


@mutant("a_gate_refuses_and_the_code_changes", "exact")
def what_is_refused_loses_its_head(monkeypatch: pytest.MonkeyPatch, hit: Hit) -> None:
    def head(self: AssetRun, partition: str) -> None:
        hit()

    monkeypatch.setattr(AssetRun, "_head", head)


@mutant("objects_are_lost_and_damaged", "exact")
def what_was_interrupted_is_used_as_it_was(monkeypatch: pytest.MonkeyPatch, hit: Hit) -> None:
    def leave(self: AssetRun, entry: planner.Entry, partition: str, reason: str) -> None:
        hit()
        self.state.set(entry.key, self._head(partition))
        self.outcome.interrupted.setdefault(self.node.name, {})[partition] = reason

    monkeypatch.setattr(AssetRun, "_leave_for_next_pass", leave)
