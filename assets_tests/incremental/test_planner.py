"""The planner alone: windows, fingerprints, and what it says will be done, against plain arithmetic on dates."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from hashlib import md5

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets_tests.incremental.clean_build import Window, keys_of
from my_platform.errors import PlatformError
from my_platform.incremental.declare import Grain, Read, day_key, last, ordinal, same, week_start
from my_platform.incremental.planner import (
    Action,
    Entry,
    Node,
    Past,
    State,
    fall_back,
    fingerprint_of,
    in_order,
    inputs_of,
    missing_inputs,
    partition_name,
    passed_over,
    plan,
    plan_asset,
    waits_for,
    window_keys,
)
from my_platform.operations.provenance import cause

settings.register_profile("planner", deadline=None, derandomize=True, max_examples=100)
pure = settings(settings.get_profile("planner"))

MONDAY = ordinal("2024-01-01")
WEDNESDAY = ordinal("2024-01-03")
V = [bytes([n]) * 16 for n in range(1, 10)]


def states_of(**values: Mapping[int, bytes]) -> dict[str, State]:
    return {name: State.of(Grain.DAY, found) for name, found in values.items()}


def days(first: int, *versions: bytes | None) -> dict[int, bytes]:
    return {first + n: version for n, version in enumerate(versions) if version is not None}


def actions(entries: list[Entry]) -> dict[tuple[str, int], Action]:
    return {(entry.asset, entry.key): entry.action for entry in entries}


# Windows

offsets = st.tuples(st.integers(-400, 30), st.integers(0, 400)).map(lambda p: (p[0], min(p[0] + p[1], 60)))
present = st.sets(st.integers(0, 40), max_size=12)


@pure
@given(offsets, present, st.integers(-20, 60))
def test_a_daily_window_holds_the_days_from_its_first_to_its_last(
    span: tuple[int, int], there: set[int], key: int
) -> None:
    parent = State.of(Grain.DAY, {MONDAY + n: V[0] for n in there})
    found = window_keys(Read("a", *span), parent, MONDAY + key)
    assert [day_key(k) for k in found] == keys_of(Window("a", *span), "day", day_key(MONDAY + key))


@pure
@given(offsets, st.sets(st.integers(0, 8), max_size=5), st.integers(-20, 60))
def test_a_weekly_asset_is_read_at_the_weeks_that_start_in_the_span(
    span: tuple[int, int], there: set[int], key: int
) -> None:
    parent = State.of(Grain.WEEK, {WEDNESDAY + 7 * n: V[0] for n in there})
    found = window_keys(Read("a", *span), parent, MONDAY + key)
    assert [day_key(k) for k in found] == keys_of(Window("a", *span), "week", day_key(MONDAY + key))
    assert all(week_start(date.fromisoformat(day_key(k))).isoformat() == day_key(k) for k in found)


def test_an_asset_without_partitions_is_read_whole() -> None:
    node = Node("a", Grain.DAY, (("whole", same("n")),))
    states = {"n": State.of(Grain.ONCE, {0: V[3]})}
    assert window_keys(same("n"), states["n"], MONDAY) == [0]
    assert inputs_of(node, MONDAY, states) == {"whole": {0: V[3]}}
    assert missing_inputs(node, MONDAY, {"n": State.of(Grain.ONCE, {})}) == [("n", 0)]


@pure
@given(
    offsets,
    st.dictionaries(st.integers(0, 40), st.sampled_from(V), max_size=8),
    st.sampled_from([Grain.DAY, Grain.WEEK]),
    st.integers(0, 50),
    st.tuples(st.integers(0, 9), st.integers(0, 9)),
)
def test_a_fingerprint_depends_on_what_is_there_and_not_on_the_slots_around_it(
    span: tuple[int, int], values: dict[int, bytes], grain: Grain, key: int, around: tuple[int, int]
) -> None:
    step = 7 if grain is Grain.WEEK else 1
    found = {WEDNESDAY + step * n: version for n, version in values.items()}
    tight = State.of(grain, found)
    first, last_key = min(found, default=WEDNESDAY), max(found, default=WEDNESDAY)
    wide = State(grain, first - around[0] * step, (last_key - first) // step + 1 + sum(around))
    for k, version in found.items():
        wide.set(k, version)
    node = Node("x", Grain.DAY, (("r", Read("a", *span)),))
    assert fingerprint_of(node, MONDAY + key, {"a": tight}) == fingerprint_of(node, MONDAY + key, {"a": wide})
    planned = plan_asset(node, {"a": tight}, Past(), MONDAY + key, MONDAY + key)[1]
    assert planned == plan_asset(node, {"a": wide}, Past(), MONDAY + key, MONDAY + key)[1]


@pytest.mark.parametrize("width", [1, 7, 30, 99, 100, 101, 365, 400, 1000])
def test_every_day_of_a_window_counts_and_none_outside_of_it(width: int) -> None:
    node = Node("x", Grain.DAY, (("r", last("a", width)),))
    before = days(MONDAY - width - 5, *([V[0]] * (width + 10)))
    base = fingerprint_of(node, MONDAY, states_of(a=before))
    tried = {0, 1, 99, 100, width // 2, width - 1}
    for back in sorted(n for n in tried if n < width):
        changed = {**before, MONDAY - back: V[1]}
        assert fingerprint_of(node, MONDAY, states_of(a=changed)) != base
        gone = {k: v for k, v in before.items() if k != MONDAY - back}
        assert fingerprint_of(node, MONDAY, states_of(a=gone)) != base
    for outside in (MONDAY + 1, MONDAY - width):
        changed = {**before, outside: V[1]}
        assert fingerprint_of(node, MONDAY, states_of(a=changed)) == base


# Fingerprints

names = st.sampled_from(["a", "a1", "1", "11", "-1"])
small_reads = st.lists(st.tuples(names, names, st.integers(-2, 2), st.integers(0, 2)), min_size=1, max_size=2)
nodes = st.builds(
    lambda name, code, reads: Node(
        name, Grain.DAY, tuple((r, Read(asset, first, first + more)) for r, asset, first, more in reads), code
    ),
    st.sampled_from(["x", "xd", "d"]),
    st.sampled_from(["", "1", "day", "ay"]),
    small_reads,
)
tables = st.fixed_dictionaries(
    {
        name: st.dictionaries(st.integers(-2, 2), st.sampled_from(V[:2]), max_size=3)
        for name in ("a", "a1", "1", "11", "-1")
    }
)


@settings(pure, max_examples=300)
@given(nodes, nodes, tables, tables, st.integers(-1, 1), st.integers(-1, 1))
def test_two_fingerprints_are_equal_only_when_all_that_they_are_made_of_is(
    one: Node,
    two: Node,
    some: Mapping[str, dict[int, bytes]],
    other: Mapping[str, dict[int, bytes]],
    k: int,
    m: int,
) -> None:
    def whole(node: Node, key: int, values: Mapping[str, dict[int, bytes]]) -> object:
        reads = [
            (name, r, [values[r.asset].get(key + n) for n in range(r.first, r.last + 1)])
            for name, r in node.reads
        ]
        return node.name, node.code, key, reads

    same_parts = whole(one, k, some) == whole(two, m, other)
    found = fingerprint_of(one, k, states_of(**some)), fingerprint_of(two, m, states_of(**other))
    assert (found[0] == found[1]) == same_parts


# Readiness


@settings(pure, max_examples=300)
@given(
    present,
    st.integers(-12, 3),
    st.integers(0, 14),
    st.booleans(),
    st.integers(0, 4),
    st.integers(-5, 45),
)
def test_a_partition_is_computed_when_its_window_holds_what_the_read_asks_for(
    there: set[int], first: int, more: int, waits: bool, at_least: int, key: int
) -> None:
    read = Read("a", first, first + more, "wait" if waits else "pass", at_least)
    window = set(range(key + first, key + first + more + 1))
    begun = {n for n in window if there and n >= min(there)}
    ready = len(window & there) >= at_least and (not waits or begun <= there)
    node = Node("x", Grain.DAY, (("r", read),))
    states = states_of(a={MONDAY + n: V[0] for n in there})
    found = actions(plan_asset(node, states, Past(), MONDAY + key, MONDAY + key)[1])
    if ready:
        assert found == {("x", MONDAY + key): Action.COMPUTE}
        assert waits_for(node, MONDAY + key, states) == "is outside of what has landed"
    else:
        assert found.get(("x", MONDAY + key)) in (Action.WAITING, None)
        assert missing_inputs(node, MONDAY + key, states)
        if at_least:
            outside = not there or max(window) < min(there)
            assert (found == {}) == outside
    gone = {k - MONDAY for _, k in passed_over(node, MONDAY + key, states)}
    assert gone == {n for n in begun if n not in there}


def test_a_head_without_inputs_is_withdrawn_and_waits() -> None:
    node = Node("x", Grain.DAY, (("r", Read("a", -1, 0)),))
    past = Past(heads={MONDAY + 1: V[0], MONDAY + 3: V[1]})
    found = plan_asset(node, states_of(a=days(MONDAY, V[0], None, V[0])), past, MONDAY, MONDAY + 3)[1]
    assert [(e.key - MONDAY, e.action) for e in found] == [
        (0, Action.COMPUTE),
        (1, Action.WITHDRAW),
        (1, Action.WAITING),
        (2, Action.WAITING),
        (3, Action.WITHDRAW),
        (3, Action.WAITING),
    ]


def test_a_head_of_a_day_that_is_gone_from_landing_is_withdrawn_whatever_its_window_still_holds() -> None:
    node = Node("x", Grain.DAY, (("r", last("a", 7)),))
    past = Past(heads={MONDAY - 9: V[0], MONDAY + 4: V[0]})
    state, found = plan_asset(node, states_of(a=days(MONDAY, V[0], V[1])), past, MONDAY, MONDAY + 1)
    assert actions(found) == {
        ("x", MONDAY - 9): Action.WITHDRAW,
        ("x", MONDAY): Action.COMPUTE,
        ("x", MONDAY + 1): Action.COMPUTE,
        ("x", MONDAY + 4): Action.WITHDRAW,
    }
    assert list(state.keys()) == [MONDAY, MONDAY + 1]


def test_all_heads_are_withdrawn_when_nothing_is_landed_any_more() -> None:
    weekly = Node("x", Grain.WEEK, (("r", last("a", 7)),))
    past = Past(heads={WEDNESDAY: V[0], WEDNESDAY + 14: V[0]})
    found = plan_asset(weekly, states_of(a={}), past, 0, -1)[1]
    assert actions(found) == {("x", WEDNESDAY): Action.WITHDRAW, ("x", WEDNESDAY + 14): Action.WITHDRAW}


@pure
@given(
    st.dictionaries(st.integers(0, 9), st.sampled_from(V), max_size=8),
    st.sets(st.integers(0, 9)),
    st.dictionaries(st.integers(0, 9), st.sampled_from(V), max_size=5),
)
def test_what_nobody_wants_waits_and_what_is_wanted_is_as_if_all_were(
    there: dict[int, bytes], wanted: set[int], heads: dict[int, bytes]
) -> None:
    all_of = Node("x", Grain.DAY, (("r", Read("a", -1, 0, "pass", 1)),), "c")
    some = replace(all_of, wanted="w")
    states = states_of(
        a={MONDAY + n: version for n, version in there.items()}, w={MONDAY + n: V[8] for n in wanted}
    )
    past = Past(heads={MONDAY + n: version for n, version in heads.items()})
    state, entries = plan_asset(some, states, past, MONDAY, MONDAY + 9)
    whole, as_if_all = plan_asset(all_of, states, past, MONDAY, MONDAY + 9)
    picked = {MONDAY + n for n in wanted}
    assert [e for e in entries if e.key in picked] == [e for e in as_if_all if e.key in picked]
    assert set(state.keys()) == set(whole.keys()) & picked
    for n in set(range(10)) - wanted:
        found = {e.action for e in entries if e.key == MONDAY + n}
        assert (Action.WITHDRAW in found) == (n in heads)
        assert found <= {Action.WITHDRAW, Action.WAITING}
        could = MONDAY + n in set(whole.keys())
        assert (Action.WAITING in found) >= could
        if could:
            later = any(n < other for other in wanted)
            assert waits_for(some, MONDAY + n, states).startswith(
                "is left out by the retraining policy" if later else "waits for the retraining policy"
            )


def test_partitions_that_may_not_change_are_used_as_they_are() -> None:
    chain = [Node("x", Grain.DAY, (("r", same("a")),)), Node("y", Grain.DAY, (("r", same("x")),))]
    states = states_of(a=days(MONDAY, V[0], V[1]))
    pasts = {"x": Past(heads={MONDAY: V[2]}), "y": Past()}
    found = plan(
        chain, states, pasts.__getitem__, lambda _: (MONDAY, MONDAY + 1), lambda node, _: node.name == "y"
    )
    assert actions(found) == {("y", MONDAY): Action.COMPUTE, ("y", MONDAY + 1): Action.WAITING}
    assert states["x"].get(MONDAY) == V[2]
    assert found[0].fingerprint == fingerprint_of(chain[1], MONDAY, states)


# What will be done, and what is done: the same plan again and again, with values from a pure function.


@dataclass
class Store:
    """Heads and traces as a platform would keep them."""

    heads: dict[str, dict[int, bytes]] = field(default_factory=dict)
    traces: dict[str, dict[bytes, bytes]] = field(default_factory=dict)
    coded: dict[tuple[str, str], set[int]] = field(default_factory=dict)

    def past(self, node: Node) -> Past:
        return Past(
            dict(self.heads.get(node.name, {})),
            dict(self.traces.get(node.name, {})),
            frozenset(self.coded.get((node.name, node.code), ())),
        )


def work(
    graph: list[Node], sources: dict[str, State], store: Store, domain: Callable[[Node], tuple[int, int]]
) -> list[tuple[str, int]]:
    """Do what the planner says, asset by asset; what was computed."""
    states, computed = dict(sources), []
    for node in graph:
        state, found = plan_asset(node, states, store.past(node), *domain(node))
        states[node.name] = state
        heads = store.heads.setdefault(node.name, {})
        for entry in found:
            assert entry.action not in (Action.LATER, Action.POSSIBLE, Action.REFUSED)
            if entry.action is Action.COMPUTE:
                computed.append((node.name, entry.key))
                value = value_of(node, entry.key, states)
                store.traces.setdefault(node.name, {})[bytes.fromhex(entry.fingerprint)] = value
                store.coded.setdefault((node.name, node.code), set()).add(entry.key)
                heads[entry.key] = value
                state.set(entry.key, value)
            elif entry.action is Action.REUSE:
                heads[entry.key] = bytes.fromhex(entry.version)
            elif entry.action is Action.WITHDRAW:
                del heads[entry.key]
    return computed


def value_of(node: Node, key: int, states: Mapping[str, State]) -> bytes:
    """One of few values, so that different inputs often give the same."""
    text = repr((node.name, node.code, inputs_of(node, key, states)))
    return V[md5(text.encode()).digest()[0] % 3]


@st.composite
def graphs(draw: st.DrawFn) -> list[Node]:
    made: list[Node] = []
    known = [("s", Grain.DAY), ("t", Grain.DAY)]
    for name in "abcd"[: draw(st.integers(2, 4))]:
        grain = draw(st.sampled_from([Grain.DAY, Grain.DAY, Grain.WEEK]))
        reads = []
        for n in range(draw(st.integers(1, 3))):
            asset, kind = draw(st.sampled_from(known))
            first = draw(st.sampled_from([0, -1, -2, -6, -120, 1]))
            width = draw(st.sampled_from([0, 1, 6, 120]))
            width = max(width, 6) if kind is Grain.WEEK else width
            gaps = draw(st.sampled_from(["wait", "pass"]))
            reads.append((f"r{n}", Read(asset, first, first + width, gaps, draw(st.integers(0, 2)))))  # type: ignore[arg-type]
        made.append(Node(name, grain, tuple(reads), "1"))
        known.append((name, grain))
    return made


landings = st.dictionaries(st.integers(0, 15), st.sampled_from(V[:3]), min_size=1, max_size=16)


@settings(pure, max_examples=150)
@given(graphs(), st.lists(st.tuples(landings, landings, st.sampled_from("abcd-")), min_size=2, max_size=4))
def test_what_is_certain_is_done_and_what_is_done_was_foretold(
    graph: list[Node], history: list[tuple[dict[int, bytes], dict[int, bytes], str]]
) -> None:
    store = Store()
    for s, t, edited in history:
        graph = [Node(n.name, n.grain, n.reads, n.code + "+" * (n.name == edited)) for n in graph]
        sources = states_of(s={MONDAY + k: v for k, v in s.items()}, t={MONDAY + k: v for k, v in t.items()})
        low, high = MONDAY + min({*s, *t}), MONDAY + max({*s, *t})

        def domain(node: Node, low: int = low, high: int = high) -> tuple[int, int]:
            if node.grain is Grain.DAY:
                return low, high
            return WEDNESDAY + -(-(low - WEDNESDAY) // 7) * 7, WEDNESDAY + (high + 1 - WEDNESDAY) // 7 * 7

        foretold = (
            actions(plan(graph, dict(sources), lambda n: store.past(by_name[n]), domain))
            if (by_name := {n.name: n for n in graph})
            else {}
        )
        done = set(work(graph, sources, store, domain))
        certain = {k for k, action in foretold.items() if action in (Action.COMPUTE, Action.LATER)}
        possible = {k for k, action in foretold.items() if action is Action.POSSIBLE}
        assert certain <= done <= certain | possible
        assert work(graph, sources, store, domain) == []
        fresh = Store()
        work(graph, sources, fresh, domain)
        assert fresh.heads == store.heads


def test_a_reader_of_a_partition_that_is_computed_is_certain_only_if_its_code_has_never_seen_it() -> None:
    chain = [Node("x", Grain.DAY, (("r", same("a")),), "new"), Node("y", Grain.DAY, (("r", same("x")),), "1")]
    pasts = {"x": Past({MONDAY: V[0]}), "y": Past({MONDAY: V[1]}, coded=frozenset({MONDAY}))}
    states = states_of(a=days(MONDAY, V[0], V[1]))
    found = plan(chain, states, pasts.__getitem__, lambda _: (MONDAY, MONDAY + 1))
    assert actions(found) == {
        ("x", MONDAY): Action.COMPUTE,
        ("x", MONDAY + 1): Action.COMPUTE,
        ("y", MONDAY): Action.POSSIBLE,
        ("y", MONDAY + 1): Action.LATER,
    }
    assert states["y"].get(MONDAY) is None


def test_a_trace_of_another_value_than_the_head_is_reused() -> None:
    node = Node("x", Grain.DAY, (("r", same("a")),))
    states = states_of(a=days(MONDAY, V[0]))
    fingerprint = fingerprint_of(node, MONDAY, states)
    past = Past({MONDAY: V[1]}, {bytes.fromhex(fingerprint): V[2]})
    state, found = plan_asset(node, states, past, MONDAY, MONDAY)
    assert found == [Entry("x", MONDAY, Action.REUSE, fingerprint, V[2].hex())]
    assert state.get(MONDAY) == V[2]
    past = Past({MONDAY: V[2]}, {bytes.fromhex(fingerprint): V[2]})
    assert plan_asset(node, states, past, MONDAY, MONDAY)[1] == []


# Refusals


def refused_past(
    node: Node, states: dict[str, State], *, head: bytes | None, more: Mapping[str, bytes] | None = None
) -> Past:
    now = bytes.fromhex(fingerprint_of(node, MONDAY, states))
    return Past(
        {MONDAY: head} if head else {},
        {bytes.fromhex(f): v for f, v in (more or {}).items()},
        refusals={now: "not wanted"},
        accepted={MONDAY: {("a", MONDAY): V[0]}} if head else {},
    )


def test_a_refused_partition_keeps_to_the_inputs_that_were_accepted_last() -> None:
    node = Node("x", Grain.DAY, (("r", same("a")),), "new")
    states = states_of(a=days(MONDAY, V[5]))
    old = fingerprint_of(node, MONDAY, states_of(a=days(MONDAY, V[0])))
    now = fingerprint_of(node, MONDAY, states)
    refused = Entry("x", MONDAY, Action.REFUSED, now, reason="not wanted")

    def found(past: Past) -> tuple[bytes | None, list[Entry]]:
        state, entries = plan_asset(node, states, past, MONDAY, MONDAY)
        assert entries == fall_back(node, MONDAY, bytes.fromhex(now), past, states)
        return state.get(MONDAY), entries

    assert found(refused_past(node, states, head=None)) == (None, [refused])
    compute = Entry("x", MONDAY, Action.COMPUTE, old, accepted=True)
    assert found(refused_past(node, states, head=V[1])) == (None, [refused, compute])
    reuse = Entry("x", MONDAY, Action.REUSE, old, V[2].hex(), accepted=True)
    assert found(refused_past(node, states, head=V[1], more={old: V[2]})) == (V[2], [refused, reuse])
    assert found(refused_past(node, states, head=V[2], more={old: V[2]})) == (V[2], [refused])
    past = refused_past(node, states, head=V[1])
    both = Past(
        past.heads, past.traces, refusals={**past.refusals, bytes.fromhex(old): "no"}, accepted=past.accepted
    )
    assert found(both) == (V[1], [refused])
    back = Past(
        past.heads,
        past.traces,
        refusals=past.refusals,
        accepted=past.accepted,
        alike={MONDAY: [{("a", MONDAY): V[7]}, {("a", MONDAY): V[5]}]},
    )
    assert found(back) == (V[1], [refused])


# Words


def test_what_a_partition_waits_for_is_named() -> None:
    node = Node("x", Grain.DAY, (("r", Read("a", -6, 0)), ("n", same("n"))))
    states = {**states_of(a=days(MONDAY, V[0], None, V[0])), "n": State.of(Grain.ONCE, {})}
    assert (
        waits_for(node, MONDAY + 5, states) == "waits for a 2024-01-02, a 2024-01-04, a 2024-01-05 and 2 more"
    )
    states["n"] = State.of(Grain.ONCE, {0: V[0]})
    assert waits_for(node, MONDAY + 2, states) == "waits for a 2024-01-02"
    assert missing_inputs(node, MONDAY + 2, states) == [("a", MONDAY + 1)]


def test_a_read_that_lacks_partitions_before_the_first_one_says_how_many_it_needs() -> None:
    node = Node("x", Grain.DAY, (("r", Read("a", -6, 0, "pass", 4)),))
    states = states_of(a=days(MONDAY, V[0], V[0]))
    expected = "needs 4 partitions of a, of which there are 2 in its window"
    assert waits_for(node, MONDAY + 1, states) == expected


def test_an_input_of_which_there_is_nothing_is_waited_for_and_is_no_gap() -> None:
    node = Node("x", Grain.DAY, (("r", Read("a", -1, 1)), ("p", Read("a", -1, 1, "pass", 0))))
    for empty in (State.of(Grain.DAY, {}), State(Grain.DAY, MONDAY - 3, 9)):
        assert waits_for(node, MONDAY, {"a": empty}) == "waits for a 2023-12-31, a 2024-01-01, a 2024-01-02"
        assert passed_over(node, MONDAY, {"a": empty}) == []


def test_what_is_passed_over_is_named_from_the_first_partition_on() -> None:
    node = Node("x", Grain.DAY, (("r", Read("a", -6, 1, "pass", 1)),))
    states = states_of(a=days(MONDAY, V[0], None, V[0]))
    assert passed_over(node, MONDAY + 2, states) == [("a", MONDAY + 1), ("a", MONDAY + 3)]
    assert missing_inputs(node, MONDAY + 2, states) == []


def test_the_cause_of_a_computation_is_the_first_difference_to_the_record() -> None:
    old = {
        "code_version": "c1",
        "inputs": {"a": {"2024-01-01": "aaaa1", "2024-01-02": "bbbb1"}, "n": {"": "cccc1"}},
    }
    inputs = {"a": {"2024-01-01": "aaaa1", "2024-01-02": "bbbb1"}, "n": {"": "cccc1"}}
    assert cause(old, inputs, "c2") == "the code or a parameter changed: was c1, is c2"
    assert cause(old, inputs, "c1") == "it was current with another value"
    changed = {**inputs, "a": {"2024-01-01": "dddd1", "2024-01-02": "eeee1"}}
    assert cause(old, changed, "c1") == "a 2024-01-01 changed: 2 of 3 inputs; was aaaa…, is dddd…"
    gone = {**inputs, "a": {"2024-01-01": "aaaa1"}}
    assert cause(old, gone, "c1") == "a 2024-01-02 is gone: 1 of 2 inputs; was bbbb…, is abse…"
    there = {**inputs, "a": {**inputs["a"], "2024-01-03": "ffff1"}}
    assert cause(old, there, "c1") == "a 2024-01-03 is there now: 1 of 4 inputs; was abse…, is ffff…"
    whole = {**inputs, "n": {"": "9999"}}
    assert cause(old, whole, "c1") == "n changed: 1 of 3 inputs; was cccc…, is 9999…"


def test_a_partition_is_named_by_asset_and_day() -> None:
    assert partition_name("a", Grain.DAY, MONDAY) == "a 2024-01-01"
    assert partition_name("a", Grain.ONCE, 0) == "a"


# Order


@pure
@given(
    st.permutations(["a", "b", "c", "d", "e"]),
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=9),
)
def test_parents_come_before_children(order: list[str], edges: list[tuple[int, int]]) -> None:
    reads: dict[str, set[str]] = {name: set() for name in order}
    for one, two in edges:
        if one < two:
            reads[order[two]].add(order[one])
    graph = {n: Node(n, Grain.DAY, tuple((p, same(p)) for p in sorted(ps))) for n, ps in reads.items()}
    found = [node.name for node in in_order(graph)]
    assert sorted(found) == sorted(order)
    assert all(found.index(parent) < found.index(name) for name in order for parent in reads[name])


def test_a_circle_is_refused() -> None:
    graph = {n: Node(n, Grain.DAY, (("r", same(p)),)) for n, p in [("a", "b"), ("b", "c"), ("c", "a")]}
    with pytest.raises(PlatformError, match="a -> b -> c -> a"):
        in_order(graph)


def test_a_window_must_not_end_before_it_starts() -> None:
    with pytest.raises(PlatformError, match="the window of a ends"):
        Read("a", 1, 0)
    assert (last("a", 31).first, last("a", 31).last) == (-30, 0)


@pure
@given(st.integers(-400, 400))
def test_weeks_start_on_wednesdays(number: int) -> None:
    day = date(2024, 1, 3) + timedelta(days=number)
    start = week_start(day)
    assert start.weekday() == 2
    assert 0 <= (day - start).days < 7
