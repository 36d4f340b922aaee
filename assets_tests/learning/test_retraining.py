"""When a model is fitted again: the laws of the pure policy, over made-up facts."""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from my_platform.errors import PlatformError
from my_platform.learning.bootstrap import Interval
from my_platform.learning.regression import ABSOLUTE_ERROR
from my_platform.learning.retraining.facts import LABELS_KNOWN_AFTER, Aged, Facts, Moved
from my_platform.learning.retraining.judging import Verdict, judge
from my_platform.learning.retraining.policy import Retraining, policy_of
from my_platform.learning.retraining.reasons import FIRST

START = date(2025, 1, 1)
CALM = Aged("trees", "2025-01-08", 0.70, "2025-02-05", Interval(0.70, 0.66, 0.74))
WORN = replace(CALM, found=Interval(0.50, 0.46, 0.54))
STILL, SHIFTED = Moved("trees", "2025-02-05", 0.02), Moved("trees", "2025-02-05", 0.31)


def week(number: int) -> str:
    return (START + timedelta(weeks=number)).isoformat()


def weeks(*numbers: int) -> list[str]:
    return [week(number) for number in numbers]


def at(now: int, decided: Sequence[int] = (), **more: Any) -> Facts:
    """The facts when the week of that number is the latest that can be fitted."""
    known: dict[str, Any] = {
        "fittable": [week(n) for n in range(now + 1) if n not in decided],
        "decided": weeks(*decided),
        "challengers": weeks(*decided),
        "labelled": [week(n) for n in range(now - 1)],
        "recipe": "r",
        "last_recipe": "r" if decided else "",
        "cpu_s_a_fit": 10.0,
    }
    return Facts(**{**known, **more})


def applied(facts: Facts, verdict: Verdict) -> Facts:
    """The facts after what was decided has been written down."""
    new = [fit.week for fit in verdict.fits]
    spent = [fit for fit in verdict.fits if fit.week not in facts.stored]
    return replace(
        facts,
        fittable=[each for each in facts.fittable if each not in new],
        decided=sorted([*facts.decided, *new]),
        challengers=sorted([*facts.challengers, *(f.week for f in verdict.fits if f.role == "challenger")]),
        last_recipe=facts.recipe if challenger(verdict) else facts.last_recipe,
        fits=facts.fits + len(spent),
        cpu_s=facts.cpu_s + len(spent) * facts.cpu_s_a_fit,
    )


def challenger(verdict: Verdict) -> list[str]:
    return [fit.week for fit in verdict.fits if fit.role == "challenger"]


reasons = st.fixed_dictionaries(
    {},
    optional={
        "labelled_weeks": st.integers(1, 6),
        "every_days": st.integers(1, 60),
        "drift": st.floats(0, 0.5),
        "drifted_days": st.integers(1, 5),
        "decay": st.floats(0, 0.3),
        "new_code": st.just(True),
    },
).filter(bool)
brakes = st.fixed_dictionaries(
    {"tests": st.integers(0, 6)},
    optional={
        "cool_down_days": st.integers(0, 60),
        "most_fits": st.integers(1, 6),
        "most_cpu_s": st.floats(1, 200),
    },
)
policies = st.builds(lambda asked, held: Retraining(**asked, **held), reasons, brakes)


@st.composite
def facts(draw: st.DrawFn) -> Facts:
    now = draw(st.integers(0, 12))
    decided = draw(st.sets(st.integers(0, 12)))
    tests_only = draw(st.sets(st.sampled_from(sorted(decided)))) if decided else set()
    fittable = [n for n in draw(st.sets(st.integers(0, now))) if n not in decided]
    return at(
        now,
        sorted(decided),
        fittable=sorted(week(n) for n in fittable),
        stored=sorted(week(n) for n in fittable if draw(st.booleans())),
        challengers=weeks(*sorted(decided - tests_only)),
        labelled=sorted(week(n) for n in draw(st.sets(st.integers(0, 12)))),
        recipe=draw(st.sampled_from(["r", "s"])),
        moved=draw(st.sampled_from([None, STILL, SHIFTED])),
        aged=draw(st.sampled_from([None, CALM, WORN])),
        drifted=sorted(week(n) for n in draw(st.sets(st.integers(0, 12)))),
        fits=draw(st.integers(0, 8)),
        cpu_s=draw(st.floats(0, 250)),
        cpu_s_a_fit=draw(st.sampled_from([0.0, 10.0, 60.0])),
    )


class TestLaws:
    @given(policies, facts())
    def test_what_is_decided_can_be_fitted_is_not_decided_yet_and_is_named_once(
        self, policy: Retraining, known: Facts
    ) -> None:
        verdict = judge(policy, known)
        decided = [fit.week for fit in verdict.fits]
        assert set(decided) <= set(known.fittable)
        assert len(decided) == len(set(decided))
        assert all(fit.reason for fit in verdict.fits)
        assert challenger(verdict) in ([], [max(known.fittable, default="")])
        assert bool(decided) == bool(verdict.reason and not verdict.held)

    @given(policies, facts())
    def test_it_settles(self, policy: Retraining, known: Facts) -> None:
        again = judge(policy, applied(known, judge(policy, known)))
        assert not again.fits or not judge(policy, known).fits
        assert judge(policy, known) == judge(policy, known)

    @given(policies, facts())
    def test_one_that_breaks_off_before_its_challenger_is_written_goes_on(
        self, policy: Retraining, known: Facts
    ) -> None:
        verdict = judge(policy, known)
        torn = replace(verdict, fits=[fit for fit in verdict.fits if fit.role != "challenger"])
        resumed = judge(replace(policy, most_fits=None, most_cpu_s=None), applied(known, torn))
        if challenger(verdict):
            assert challenger(resumed) == challenger(verdict)

    @given(policies, facts())
    def test_the_budget_is_never_exceeded(self, policy: Retraining, known: Facts) -> None:
        after = applied(known, judge(policy, known))
        if policy.most_fits is not None:
            assert after.fits <= max(policy.most_fits, known.fits)
        if policy.most_cpu_s is not None:
            assert after.cpu_s <= max(policy.most_cpu_s, known.cpu_s) + 1e-9

    @given(policies, facts())
    def test_challengers_lie_as_far_apart_as_the_cool_down_asks(
        self, policy: Retraining, known: Facts
    ) -> None:
        found = challenger(judge(policy, known))
        if found and known.challengers:
            apart = date.fromisoformat(found[0]) - date.fromisoformat(max(known.challengers))
            assert apart.days >= policy.cool_down_days

    @given(policies, facts())
    def test_without_brakes_nothing_is_held_back(self, policy: Retraining, known: Facts) -> None:
        free = replace(policy, cool_down_days=0, most_fits=None, most_cpu_s=None)
        assert judge(free, known).held == ""

    @given(policies, facts())
    def test_brakes_take_away_and_add_no_reason(self, policy: Retraining, known: Facts) -> None:
        free = replace(policy, cool_down_days=0, most_fits=None, most_cpu_s=None)
        assert judge(policy, known).reason == judge(free, known).reason
        assert {f.week for f in judge(policy, known).fits} <= {f.week for f in judge(free, known).fits}

    @given(policies, facts())
    def test_a_person_is_held_back_by_nothing(self, policy: Retraining, known: Facts) -> None:
        verdict = judge(policy, known, by_hand="a new till")
        if max(known.fittable, default="") > max(known.decided, default=""):
            assert challenger(verdict) == [max(known.fittable)]
            assert verdict.fits[0].reason == "by hand: a new till"
        else:
            assert not verdict.fits

    @given(policies, facts(), st.floats(0, 0.5))
    def test_a_lower_limit_finds_what_a_higher_one_finds(
        self, policy: Retraining, known: Facts, less: float
    ) -> None:
        if policy.drift is not None and judge(policy, known).reason:
            assert judge(replace(policy, drift=min(less, policy.drift)), known).reason

    @given(policies, facts())
    def test_the_gate_is_told_of_the_tests_that_it_will_have(self, policy: Retraining, known: Facts) -> None:
        verdict = judge(policy, known)
        if not verdict.fits:
            return
        decided = {*known.decided, *(fit.week for fit in verdict.fits)}
        last = date.fromisoformat(verdict.week) - LABELS_KNOWN_AFTER
        tests = [each for each in decided & set(known.labelled) if date.fromisoformat(each) <= last]
        assert verdict.gate.startswith(
            f"the gate has {len(tests)} weekly tests" if tests else "the gate cannot judge"
        )


class TestReasons:
    def test_the_first_model_comes_with_the_tests_that_the_gate_needs(self) -> None:
        verdict = judge(Retraining(drift=0.1), at(9))
        assert verdict.reason == FIRST
        assert [(fit.week, fit.role) for fit in verdict.fits] == [
            (week(9), "challenger"), *((week(n), "test") for n in (7, 6, 5, 4)),
        ]  # fmt: skip
        assert verdict.gate == "the gate has 4 weekly tests"

    def test_a_refit_is_tested_by_the_weeks_that_were_fitted_before(self) -> None:
        verdict = judge(Retraining(labelled_weeks=2), at(9, (3, 4, 5, 6, 7)))
        assert [fit.week for fit in verdict.fits] == [week(9)]
        assert verdict.reason == f"2 new labelled weeks, {week(6)} to {week(7)}"

    def test_what_was_fitted_before_the_policy_was_declared_is_kept(self) -> None:
        verdict = judge(Retraining(drift=0.1), at(9, stored=weeks(2, 3, 4, 5, 6, 7, 8)))
        assert [fit.week for fit in verdict.fits if fit.role == "kept"] == weeks(2, 3, 4, 5, 6, 7, 8)
        assert not [fit for fit in verdict.fits if fit.role == "test"]

    def test_with_a_history_that_is_too_short_the_gate_cannot_judge_and_that_is_said(self) -> None:
        verdict = judge(Retraining(drift=0.1), at(1))
        assert [fit.week for fit in verdict.fits] == [week(1)]
        assert verdict.gate.startswith(f"the gate cannot judge {week(1)}: its recipe is fitted for no week")
        assert f"a model of {week(3)} or later it can" in verdict.gate

    @pytest.mark.parametrize(
        ("policy", "more", "said"),
        [
            ({"every_days": 21}, {}, f"schedule: 21 days since {week(6)}, every 21"),
            ({"drift": 0.25}, {"moved": SHIFTED}, "drift: stability index 0.310 of the scores of trees"),
            ({"decay": 0.05}, {"aged": WORN}, "decay: average precision of trees is 0.5000"),
            ({"new_code": True}, {"recipe": "s"}, "new code or parameters: recipe s, was r"),
            ({"drifted_days": 2}, {"drifted": weeks(7, 8)}, "drift checks failed on 2 days since"),
        ],
    )
    def test_each_reason_is_told_with_its_numbers(
        self, policy: dict[str, Any], more: dict[str, Any], said: str
    ) -> None:
        verdict = judge(Retraining(**policy), at(9, (6,), **more))
        assert verdict.reason.startswith(said)
        assert challenger(verdict) == [week(9)]

    @pytest.mark.parametrize(
        ("policy", "more"),
        [
            ({"every_days": 22}, {}),
            ({"labelled_weeks": 4}, {}),
            ({"drift": 0.25}, {"moved": STILL}),
            ({"drift": 0.25}, {}),
            ({"decay": 0.05}, {"aged": CALM}),
            ({"decay": 0.05}, {}),
            ({"new_code": True}, {}),
            ({"drifted_days": 2}, {"drifted": weeks(4, 5, 8)}),
        ],
    )
    def test_without_a_reason_it_is_told_how_far_from_one_it_is(
        self, policy: dict[str, Any], more: dict[str, Any]
    ) -> None:
        verdict = judge(Retraining(**policy), at(9, (6,), **more))
        assert not verdict.fits
        assert verdict.quiet.startswith(f"no reason to fit {week(9)}: ")
        assert len(verdict.quiet) > len(f"no reason to fit {week(9)}: ")

    def test_decay_of_an_error_is_a_rise(self) -> None:
        risen = Aged("trees", week(1), 10.0, week(5), Interval(12.0, 11.5, 12.5))
        policy = Retraining(decay=0.1)
        assert challenger(judge(policy, at(9, (0,), aged=risen), ABSOLUTE_ERROR)) == [week(9)]
        fallen = replace(risen, found=Interval(8.0, 7.5, 8.5))
        assert not judge(policy, at(9, (0,), aged=fallen), ABSOLUTE_ERROR).fits

    def test_cool_down_and_budget_say_what_holds_it_back(self) -> None:
        cool = judge(Retraining(every_days=7, cool_down_days=28), at(9, (7,)))
        assert cool.held == f"the cool-down: 14 of 28 days since the model of {week(7)}"
        many = judge(Retraining(every_days=7, most_fits=3), at(9, (7,), fits=3))
        assert many.held == "the budget: 3 of 3 fits of the last 28 days are spent"
        dear = judge(Retraining(every_days=7, most_cpu_s=100, budget_days=7), at(9, (7,), cpu_s=95.0))
        assert dear.held.startswith("the budget: 95 of 100 processor seconds of the last 7 days are spent")
        assert not (*cool.fits, *many.fits, *dear.fits)

    def test_a_small_budget_goes_to_the_challenger_before_its_tests(self) -> None:
        verdict = judge(Retraining(drift=0.1, most_fits=3), at(9))
        assert [fit.week for fit in verdict.fits] == weeks(9, 7, 6)
        assert verdict.gate == "the gate has 2 weekly tests, of 4 that the policy asks for"


class TestWords:
    def test_a_policy_in_words_is_the_declared_one(self) -> None:
        text = "labelled_weeks=4, drift=0.1,decay=.05,new_code,cool_down_days=14,most_fits=3"
        assert policy_of(text) == Retraining(
            labelled_weeks=4, drift=0.1, decay=0.05, new_code=True, cool_down_days=14, most_fits=3
        )

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", "needs a reason"),
            ("cool_down_days=7", "needs a reason"),
            ("weekly", "`weekly` is nothing that a policy has; there are labelled_weeks"),
            ("drift=much", "`drift=much`: expected a number after `drift=`"),
            ("drift", "expected a number"),
            ("labelled_weeks=1.5", "expected a whole number"),
            ("new_code=perhaps", "expected true or false"),
            ("every_days=0", "cannot have every_days=0"),
            ("drift=-1", "cannot have drift=-1.0"),
            ("drift=nan", "cannot have drift=nan"),
            ("drift=1,most_cpu_s=nan", "cannot have most_cpu_s=nan"),
        ],
    )
    def test_what_is_no_policy_is_refused_in_words(self, text: str, said: str) -> None:
        with pytest.raises(PlatformError, match=re.escape(said)):
            policy_of(text)
