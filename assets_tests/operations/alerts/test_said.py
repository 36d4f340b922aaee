"""What is said of alerts: once when one begins, once when it ends, again while it lasts, and nothing is lost or doubled."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from my_platform.operations.alerts.conditions import Alert, Severity
from my_platform.operations.alerts.said import (
    Notice,
    State,
    not_sent,
    owed_to,
    read_state,
    say,
    sent,
    write_state,
)

HOUR_S = 3_600.0
ALL: dict[str, Severity] = {"log": "info"}


def alert(key: str, severity: Severity = "error") -> Alert:
    return Alert(key, "check", severity, f"{key} happened", "my-platform plan")


def look(
    state: State, keys: list[str], now_s: float, repeat_h: float = 0, happened: list[str] | None = None
) -> tuple[State, list[Notice]]:
    lasting, moments = [alert(key) for key in keys], [alert(key, "info") for key in happened or []]
    return say(state, lasting, moments, now_s, repeat_s=repeat_h * HOUR_S, receivers=ALL)


def words(notices: list[Notice]) -> list[tuple[str, str]]:
    return [(notice.what, notice.alert.key) for notice in notices]


def test_an_alert_is_said_when_it_begins_and_when_it_ends() -> None:
    state, first = look(State(), ["a"], 0)
    state, second = look(state, ["a"], 10)
    state, third = look(state, [], 20)
    _, fourth = look(state, [], 30)
    assert [words(found) for found in (first, second, third, fourth)] == [
        [("began", "a")],
        [],
        [("ended", "a")],
        [],
    ]
    assert (third[0].since_s, third[0].at_s) == (0, 20)


def test_an_alert_that_lasts_is_said_again_after_the_hours_that_were_asked_for() -> None:
    state, _ = look(State(), ["a"], 0, repeat_h=2)
    state, early = look(state, ["a"], 1.9 * HOUR_S, repeat_h=2)
    state, due = look(state, ["a"], 2 * HOUR_S, repeat_h=2)
    state, again = look(state, ["a"], 3.9 * HOUR_S, repeat_h=2)
    assert [words(found) for found in (early, due, again)] == [[], [("still", "a")], []]
    assert due[0].since_s == 0


def test_an_alert_that_gets_worse_is_said_at_once() -> None:
    state, _ = say(State(), [alert("a", "warning")], [], 0, repeat_s=0, receivers={"mail": "error"})
    assert owed_to(state, "mail") == []
    state, worse = say(state, [alert("a", "error")], [], 1, repeat_s=0, receivers={"mail": "error"})
    assert words(worse) == [("still", "a")]
    # Milder again: who was told of it is told when it ends.
    state, milder = say(state, [alert("a", "warning")], [], 2, repeat_s=0, receivers={"mail": "error"})
    assert milder == []
    state, _ = say(state, [], [], 3, repeat_s=0, receivers={"mail": "error"})
    assert words(owed_to(state, "mail")) == [("still", "a"), ("ended", "a")]


def test_the_next_attempt_at_what_failed_is_not_said_again() -> None:
    state, first = look(State(), [], 0, happened=["run x"])
    _, second = look(state, [], 60, happened=["run x"])
    assert (words(first), second) == ([("happened", "run x")], [])


def test_a_receiver_gets_what_is_severe_enough_for_it() -> None:
    receivers: dict[str, Severity] = {"log": "info", "mail": "error"}
    lasting = [alert("mild", "warning"), alert("bad", "error")]
    state, _ = say(State(), lasting, [], 0, repeat_s=0, receivers=receivers)
    assert [len(owed_to(state, name)) for name in receivers] == [2, 1]


def test_what_a_receiver_is_owed_goes_with_the_receiver() -> None:
    state, _ = say(State(), [alert("a")], [], 0, repeat_s=0, receivers={"log": "info", "mail": "info"})
    state, _ = look(state, ["a"], 1)
    assert [each.receivers for each in state.pending] == [("log",)]


def test_a_receiver_that_fails_is_tried_again_ever_more_seldom() -> None:
    state, waits = State(), []
    for _ in range(9):
        state = not_sent(state, "mail", "down", 0, first_s=30, most_s=3_600)
        waits.append(state.troubles["mail"].again_s)
    assert waits == [30, 60, 120, 240, 480, 960, 1_920, 3_600, 3_600]
    assert sent(state, "mail", []).troubles == {}


def test_a_state_comes_back_from_its_file(tmp_path: Path) -> None:
    state, _ = look(State(cursors={"checks": {"after": 3}}), ["a", "b"], 5, happened=["m"])
    state = not_sent(state, "log", "full", 7, first_s=1, most_s=2)
    write_state(tmp_path / "state.json", state)
    assert read_state(tmp_path / "state.json") == state


@pytest.mark.parametrize("text", ["", "{", "[]", '{"open": 3}', "null"])
def test_a_damaged_state_is_none_and_all_is_said_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)
    assert read_state(tmp_path / "state.json") is None
    assert (tmp_path / "state.json").read_text() == text


KEYS = st.sampled_from("abcd")
STEPS = st.lists(
    st.tuples(st.frozensets(KEYS), st.frozensets(KEYS), st.floats(1, 30_000), st.booleans()), max_size=25
)


@given(STEPS, st.sampled_from([0.0, 1.0, 24.0]))
def test_over_any_history_each_beginning_and_each_end_is_said_once_to_who_is_reached(
    steps: list[tuple[frozenset[str], frozenset[str], float, bool]], repeat_h: float
) -> None:
    state, now_s = State(), 0.0
    before: frozenset[str] = frozenset()
    began, ended = Counter[str](), Counter[str]()
    received: list[Notice] = []
    last_said: dict[str, float] = {}
    for holding, happened, passed_s, reached in steps:
        now_s += passed_s
        state, notices = look(
            state, sorted(holding), now_s, repeat_h, [f"m{key}" for key in sorted(happened)]
        )
        began.update(holding - before)
        ended.update(before - holding)
        before = holding
        for notice in notices:
            key = notice.alert.key
            if notice.what in ("still", "happened") and key in last_said:
                assert now_s - last_said[key] >= (repeat_h * HOUR_S if notice.what == "still" else 86_400)
            last_said[key] = now_s
        if reached:
            owed = owed_to(state, "log")
            received += owed
            state = sent(state, "log", owed)
    received += owed_to(state, "log")
    of_kind = {
        what: Counter(n.alert.key for n in received if n.what == what) for what in ("began", "ended", "still")
    }
    assert of_kind["began"] == began
    assert of_kind["ended"] == ended
    assert not (of_kind["still"] and not repeat_h)
    assert len({notice.id for notice in received}) == len(received)
    assert set(state.open) == before
