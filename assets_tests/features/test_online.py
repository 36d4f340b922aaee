"""The online compiler against the offline one, bit for bit, whatever comes in whatever order."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets_tests.features.test_offline import (
    SCHEMA,
    START,
    aggregates,
    tables,
)
from my_platform.domains.fraud.features import FEATURE_SETS, TO_PAST_AVG
from my_platform.features import offline, online, online_code, row_code
from my_platform.features.declaration import (
    Aggregate,
    FeatureError,
    FeatureSet,
    count,
    feature_set,
    last,
    total,
    total_squares,
)
from my_platform.features.online import EntityState, Event, OnlineFeatures, compile_online
from my_platform.features.replay import same_bits

EVER = 90


def declare(events: str, declared: list[Aggregate]) -> FeatureSet:
    named = {f"a{index}": aggregate for index, aggregate in enumerate(declared)}
    return feature_set(
        "tested",
        rows="rows",
        events=events,
        entity="entity",
        time="at",
        order="number",
        aggregates=named,
        columns={
            **{name: pl.col(name) for name in named},
            "tenth": pl.col("value") / 10,
            "seventh": pl.col("a0") / 7,
            "share": pl.when(pl.col("a0") > 1).then(pl.col("value") / pl.col("a0")).otherwise(None),
            "late": (pl.col("at").dt.hour() >= 11) | pl.col("flag"),
        },
    )


sets_of_own = st.lists(aggregates(own_events=True), min_size=1, max_size=5).map(lambda a: declare("rows", a))
sets_of_others = st.lists(aggregates(own_events=False), min_size=1, max_size=5).map(
    lambda a: declare("events", a)
)


def records(frame: pl.DataFrame) -> list[dict[str, Any]]:
    return frame.with_columns(pl.col("at").to_physical()).to_dicts()


def compiled(tested: FeatureSet, **options: Any) -> OnlineFeatures:
    return compile_online(tested, SCHEMA, None if tested.own_events else SCHEMA, **options)


def as_frame(form: OnlineFeatures, answers: list[tuple[Any, ...]]) -> pl.DataFrame:
    return pl.DataFrame(answers, dict(form.types), orient="row")


def assert_same_bits(tested: FeatureSet, one: pl.DataFrame, other: pl.DataFrame) -> None:
    for name in tested.columns:
        same = same_bits(one[name], other[name])
        assert np.all(same), f"{name}: {one[name].to_list()} and {other[name].to_list()}"


def states_of(form: OnlineFeatures, arrived: list[dict[str, Any]]) -> dict[int, EntityState]:
    states = {entity: form.state() for entity in (-7, 3, 4)}
    for record in arrived:
        states[record["entity"]].insert(form.event(record))
    return states


@given(sets_of_own, tables(), st.randoms(use_true_random=False))
@settings(max_examples=80, deadline=None)
def test_after_any_order_of_arrival_rows_of_their_own_have_the_offline_features(
    tested: FeatureSet, rows: pl.DataFrame, random: Any
) -> None:
    form = compiled(tested, lateness_days=EVER)
    arrived = records(rows)
    arrived += arrived[: len(arrived) // 3]
    random.shuffle(arrived)
    states = states_of(form, arrived)
    in_time = records(rows.sort("at", "number"))
    answers = [states[row["entity"]].features(row) for row in in_time]
    assert not any(answer.degraded for answer in answers)
    assert_same_bits(tested, as_frame(form, [a.values for a in answers]), offline.compute(tested, rows))


@given(sets_of_others, tables(), tables(), st.randoms(use_true_random=False))
@settings(max_examples=80, deadline=None)
def test_after_any_order_of_arrival_events_of_another_table_give_the_offline_features(
    tested: FeatureSet, rows: pl.DataFrame, events: pl.DataFrame, random: Any
) -> None:
    form = compiled(tested, lateness_days=EVER)
    arrived = records(events)
    random.shuffle(arrived)
    states = states_of(form, arrived + arrived[:3])
    answers = [states[row["entity"]].features(row).values for row in records(rows.sort("at", "number"))]
    assert_same_bits(tested, as_frame(form, answers), offline.compute(tested, rows, events))


@given(sets_of_own, tables(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_row_scored_when_it_arrives_has_the_features_of_what_had_arrived(
    tested: FeatureSet, rows: pl.DataFrame, inserted_first: bool
) -> None:
    form = compiled(tested, lateness_days=EVER)
    states = {entity: form.state() for entity in (-7, 3, 4)}
    for number, row in enumerate(records(rows)):
        state = states[row["entity"]]
        before = state.events
        if inserted_first:
            state.insert(form.event(row))
        answer = state.features(row)
        assert inserted_first or state.events == before
        state.insert(form.event(row))
        wanted = offline.compute(tested, rows[number], rows[: number + 1])
        assert_same_bits(tested, as_frame(form, [answer.values]), wanted)


@given(sets_of_own | sets_of_others, tables(), tables(), st.integers(0, 2), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_with_little_kept_a_row_is_the_offline_one_or_said_to_be_degraded(
    tested: FeatureSet, rows: pl.DataFrame, others: pl.DataFrame, lateness_days: int, random: Any
) -> None:
    events = rows if tested.own_events else others
    form = compiled(tested, lateness_days=lateness_days)
    arrived = records(events)
    random.shuffle(arrived)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(online, "_PRUNED_FROM", 2)
        states = states_of(form, arrived)
    wanted = offline.compute(tested, rows, events)
    newest = {entity: state.seconds[-1] if len(state) else None for entity, state in states.items()}
    for number, row in enumerate(records(rows.sort("at", "number"))):
        answer = states[row["entity"]].features(row)
        if answer.degraded is None:
            assert_same_bits(tested, as_frame(form, [answer.values]), wanted[number])
        else:
            assert row["at"] // 10**6 < newest[row["entity"]] - form.lateness_s


@pytest.fixture
def own_form() -> OnlineFeatures:
    return compiled(declare("rows", [count(days=1), total("value", days=2), last("value", days=3)]))


def row_at(at: datetime, number: int, **columns: Any) -> dict[str, Any]:
    row = {"entity": 3, "at": at, "number": number, "value": 1, "flag": None, "word": "a"}
    return records(pl.DataFrame([row | columns], SCHEMA))[0]


def test_an_event_that_is_told_again_changes_nothing(own_form: OnlineFeatures) -> None:
    state, event = own_form.state(), own_form.event(row_at(START, 1))
    assert [state.insert(event), state.insert(event), len(state)] == [True, False, 1]


def test_another_event_at_the_same_place_is_refused_with_both(own_form: OnlineFeatures) -> None:
    state = own_form.state()
    state.insert(own_form.event(row_at(START, 1)))
    with pytest.raises(
        FeatureError, match=r"rows: an event with number 1 at .* known as .*1.* and is now .*2"
    ):
        state.insert(own_form.event(row_at(START, 1, value=2)))


def test_an_event_between_two_seconds_is_refused(own_form: OnlineFeatures) -> None:
    with pytest.raises(FeatureError, match="rows, column at: expected whole seconds"):
        own_form.event(row_at(START.replace(microsecond=5), 1))


@pytest.mark.parametrize("late", [False, True])
def test_a_refused_event_leaves_no_trace(late: bool) -> None:
    form = compiled(declare("rows", [count(days=1), total_squares("value", days=2)]))
    state = form.state()
    rows = [row_at(START + timedelta(hours=hour), hour) for hour in (1, 5)]
    for row in rows:
        state.insert(form.event(row))
    before = state.features(rows[1])
    with pytest.raises(FeatureError, match="tested: a square of value exceeds 64 bits"):
        state.insert(form.event(row_at(START + timedelta(hours=3 if late else 7), 9, value=2**40)))
    assert (len(state), state.features(rows[1])) == (2, before)


def test_a_total_beyond_64_bits_is_refused_online_too(own_form: OnlineFeatures) -> None:
    state = own_form.state()
    state.insert(own_form.event(row_at(START, 1, value=2**62)))
    with pytest.raises(FeatureError, match=r"tested, aggregate a1: a total exceeds 64 bits"):
        state.features(row_at(START, 2, value=2**62))


def test_a_state_keeps_no_more_than_twice_what_rows_may_ask_for(own_form: OnlineFeatures) -> None:
    state = own_form.state()
    for hour in range(3_000):
        state.insert(own_form.event(row_at(START + timedelta(hours=hour), hour)))
    kept_days = (own_form.reach_s + own_form.lateness_s) // 86_400
    assert len(state) <= 2 * 24 * kept_days + 1
    assert state.features(row_at(START + timedelta(hours=2_999), 2_999)).degraded is None
    degraded = state.features(row_at(START, 0)).degraded
    assert degraded is not None
    assert "are not kept any more" in degraded


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"z": pl.col("value").log()}, r"feature set tested, column z: the function Log .*use \+ - \* /"),
        ({"z": pl.col("missing") + 1}, "column z: there is no column or aggregate missing"),
        ({"z": pl.col("value").shift(1).fill_null(0)}, "an aggregate over a window"),
    ],
)
def test_what_has_no_exact_online_form_is_refused_by_set_column_and_part(
    columns: dict[str, pl.Expr], message: str
) -> None:
    def declared() -> None:
        tested = feature_set(
            "tested", rows="rows", entity="entity", time="at", order="number", aggregates={}, columns=columns
        )
        compiled(tested)

    with pytest.raises(FeatureError, match=message):
        declared()


@pytest.mark.parametrize(
    ("aggregate", "message"),
    [
        (total("price", days=1), "rows: there is no column price"),
        (total("flag", days=1), "rows, column flag: only integers are aggregated, found Boolean"),
    ],
)
def test_a_column_that_cannot_be_aggregated_is_refused(aggregate: Aggregate, message: str) -> None:
    with pytest.raises(FeatureError, match=message):
        compiled(declare("rows", [aggregate]))


@pytest.mark.parametrize("tested", FEATURE_SETS, ids=lambda each: each.name)
def test_the_features_of_the_shipped_domain_are_the_offline_ones(tested: FeatureSet) -> None:
    height = 400
    random = np.random.default_rng(5)
    to_past_avg = pl.Series(random.choice([0.0, 0.5, 1.0, 2.5, 7.0], height)).replace(0.0, None)
    rows = pl.DataFrame(
        {
            "TRANSACTION_ID": np.arange(height),
            "TX_DATETIME": np.sort(random.integers(0, 75 * 86_400, height)),
            "CUSTOMER_ID": random.integers(0, 4, height),
            "TERMINAL_ID": random.integers(0, 4, height),
            "TX_AMOUNT": random.integers(0, 40_000, height) / 100,
        }
    ).with_columns((pl.col("TX_DATETIME") * 10**6).cast(pl.Datetime("us")), to_past_avg.alias(TO_PAST_AVG))
    events = rows.with_columns(
        REPORTED_AT=pl.col("TX_DATETIME") + pl.duration(days=7), IS_FRAUD=pl.col("TX_AMOUNT") > 200
    )
    types = dict(events.schema)
    form = compile_online(tested, types, None if tested.own_events else types, lateness_days=80)
    states: dict[int, EntityState] = {}
    physical = events.with_columns(pl.col("TX_DATETIME", "REPORTED_AT").to_physical()).to_dicts()
    for record in physical:
        states.setdefault(record[tested.entity], form.state()).insert(form.event(record))
    answers = [states[row[tested.entity]].features(row).values for row in physical]
    wanted = offline.compute(tested, rows, rows if tested.own_events else events)
    assert_same_bits(tested, as_frame(form, answers), wanted)


Plant = Callable[[pytest.MonkeyPatch], None]
MUTANTS: list[Any] = []


def mutant(planted: Plant) -> Plant:
    MUTANTS.append(pytest.param(planted, id=planted.__name__))
    return planted


def rewrite(patch: pytest.MonkeyPatch, old: str, new: str) -> None:
    """Let compiled source say something else."""
    function = online_code._function

    def rewritten(signature: str, lines: list[str]) -> str:
        return function(signature, [line.replace(old, new) for line in lines])

    patch.setattr(online_code, "_function", rewritten)


@mutant
def windows_hold_the_event_on_their_earlier_edge(patch: pytest.MonkeyPatch) -> None:
    rewrite(patch, "00)", "00 - 1)")


@mutant
def delays_are_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(online_code._Windows, "_slice", lambda self, each: (self._until(each.days), self._until(0)))


@mutant
def the_row_itself_is_never_counted(patch: pytest.MonkeyPatch) -> None:
    rewrite(patch, "own + 1", "own")


@mutant
def past_only_is_ignored(patch: pytest.MonkeyPatch) -> None:
    slice_of = online_code._Windows._slice

    def with_itself(self: Any, aggregate: Aggregate) -> tuple[str, str]:
        start, end = slice_of(self, aggregate)
        return start, self._named("own + 1") if end == "own" else end

    patch.setattr(online_code._Windows, "_slice", with_itself)


@mutant
def sums_are_floats(patch: pytest.MonkeyPatch) -> None:
    steps = online_code._steps

    def in_floats(contents: Any, test: str, value: Any) -> list[str]:
        return [line.replace("[-1] + ", "[-1] + 0.0 + ") for line in steps(contents, test, value)]

    patch.setattr(online_code, "_steps", in_floats)


@mutant
def a_constant_divisor_divides(patch: pytest.MonkeyPatch) -> None:
    def divided(self: Any, one: Any, other: Any, dtype: pl.DataType) -> Any:
        other = self.common(other, dtype, mixed=True)
        return self.line(
            f"{one.text} / {other.text} if {other.text} else by_zero({one.text}, {other.text})",
            dtype,
            [one, other],
        )

    patch.setattr(row_code.RowCode, "_division", divided)


@mutant
def a_late_event_is_put_at_the_end(patch: pytest.MonkeyPatch) -> None:
    def appended(self: EntityState, event: Event) -> bool:
        self._add(event)
        return True

    patch.setattr(EntityState, "insert", appended)


@mutant
def nulls_meet_conditions(patch: pytest.MonkeyPatch) -> None:
    test = online_code._test
    patch.setattr(online_code, "_test", lambda *given: f"{test(*given)} is not False")


def lawful_history() -> None:
    """Rows whose features tell every mutant apart, in an order that is none."""
    declared = [
        count(days=1),
        total("value", days=2, past_only=True),
        total_squares("value", days=3),
        count(days=1, delay_days=1),
        count(days=3, where=offline.Condition("flag", "==", True)),
        last("value", days=2),
    ]
    tested = declare("rows", declared)
    form = compiled(tested, lateness_days=EVER)
    rows = (
        pl.DataFrame(
            [
                row | {"at": START + timedelta(hours=row["hour"])}
                for row in [
                    {"entity": 3, "hour": hour, "number": number, "value": value, "flag": flag, "word": "a"}
                    for number, (hour, value, flag) in enumerate(
                        [
                            (0, 3, True),
                            (24, 5, None),
                            (24, 9, False),
                            (48, 7, True),
                            (49, None, True),
                            (72, 2**31, None),
                        ]
                    )
                ]
            ]
        )
        .select(list(SCHEMA))
        .cast(dict(SCHEMA))
    )
    states = states_of(form, records(rows.reverse()))
    answers = [states[3].features(row).values for row in records(rows)]
    assert_same_bits(tested, as_frame(form, answers), offline.compute(tested, rows))


def test_the_history_of_the_mutants_is_lawful_as_it_is() -> None:
    lawful_history()


@pytest.mark.parametrize("planted", MUTANTS)
def test_a_mutant_breaks_the_law(planted: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch)
    with pytest.raises((AssertionError, TypeError, FeatureError)):
        lawful_history()
