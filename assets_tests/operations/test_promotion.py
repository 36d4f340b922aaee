"""Who becomes champion and who does not: the gate, the ledger and the bundles on stored values."""

import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from assets_tests.homes import folder_in_memory
from assets_tests.operations import contest
from my_platform.errors import DamagedBundle, PlatformError
from my_platform.learning.bundle import read_bundle
from my_platform.learning.gate import Case
from my_platform.learning.health import InService, Limits
from my_platform.learning.ledger import Line
from my_platform.learning.registry import Registry
from my_platform.learning.registry_place import RegistryPlace
from my_platform.learning.tracking import Tracker
from my_platform.operations.exports import NotExported, find_export
from my_platform.operations.health import WATCH, look_after
from my_platform.operations.models import Models
from my_platform.operations.outcome import Outcome
from my_platform.operations.promotion import GATE, Promotion, promote, put_forward
from my_platform.operations.session import Session, opened
from my_platform.storage.objects import locked


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with folder_in_memory() as folder:
        home = folder / "home"
        contest.land_days(home)
        with opened(contest.settings(home)) as found:
            (problem,) = found.refresh().problems[-1:]
            assert "the ONNX model differs from its own by" in problem
            yield found


@pytest.fixture
def models(session: Session, tmp_path: Path) -> Models:
    """The fitted models, of which none was promoted yet."""
    return Models(
        session.workspace,
        session.heads,
        Registry(RegistryPlace(tmp_path / "registry"), Tracker(tmp_path / "mlflow")),
    )


def tried(models: Models, name: str, *, forced: bool = False) -> Promotion:
    return promote(models, models.named(name), who="ada", why="a better one", forced=forced)


def champion(models: Models) -> str | None:
    found = models.registry.ledger.standing(contest.USE).champion
    return found.model if found else None


def case(done: Promotion) -> Case:
    """The numbers that a verdict rests on."""
    assert done.judged is not None
    return done.judged.verdict.case


def against(done: Promotion) -> str:
    assert done.judged is not None
    return "; ".join(done.judged.verdict.against)


def broken(done: Promotion) -> list[str]:
    """The rules that a model that was turned away does not keep."""
    assert not done.serves
    assert done.judged is not None
    return [reason.rule for reason in done.judged.verdict.reasons if not reason.kept]


def test_the_first_model_that_is_sound_becomes_champion(models: Models) -> None:
    assert tried(models, "plain").serves

    (line,) = models.registry.ledger.lines(contest.USE)
    assert (line.who, line.why, line.after.model) == ("ada", "a better one", "plain")
    assert line.before is None
    assert line.gate["weeks"] == ["2026-01-14", "2026-01-21", "2026-01-28", "2026-02-04"]


def test_a_better_model_takes_the_place_and_the_ledger_names_both(models: Models) -> None:
    tried(models, "plain")
    assert tried(models, "best").serves

    standing = models.registry.ledger.standing(contest.USE)
    assert [served.model for served in standing.serving] == ["plain", "best"]


def test_a_new_recipe_that_is_only_as_good_does_not(models: Models) -> None:
    tried(models, "plain")

    assert broken(tried(models, "copy_of_plain")) == ["better"]
    assert champion(models) == "plain"


def test_a_refit_of_the_champions_recipe_needs_to_be_no_better(models: Models) -> None:
    promote(models, models.named("plain@2026-02-11"), who="ada", why="", forced=False)
    refit = tried(models, "plain")

    assert refit.serves
    assert case(refit).kind == "refit"


def test_a_model_that_wins_by_a_leak_is_turned_away_even_by_force(models: Models) -> None:
    tried(models, "plain")
    leaking = tried(models, "leaking", forced=True)

    assert broken(leaking) == ["checks"]
    gain = case(leaking).gain
    assert gain is not None
    assert gain.low > 0.2
    assert champion(models) == "plain"


def test_a_feature_that_looks_like_a_label_needs_a_persons_word(models: Models) -> None:
    tried(models, "plain")
    assert broken(tried(models, "suspect")) == ["warnings"]

    assert tried(models, "suspect", forced=True).serves
    assert models.registry.ledger.lines(contest.USE)[-1].forced


def test_a_model_over_its_latency_budget_is_turned_away_even_by_force(models: Models) -> None:
    tried(models, "plain")

    slow = tried(models, "slow", forced=True)

    assert broken(slow) == ["budget"]
    assert "ms, limit 5 ms" in against(slow)


def test_the_budget_is_of_what_serves_and_the_bundle_carries_it(models: Models) -> None:
    done = tried(models, "fast_as_onnx")

    assert done.serves
    assert done.judged is not None
    assert done.judged.measured is not None
    assert done.judged.native is not None
    assert done.judged.measured.p99_ms < contest.BUDGET.p99_ms < done.judged.native.p99_ms
    assert done.line is not None
    bundle = read_bundle(models.registry.bundles, done.line.after.bundle)
    assert set(bundle.files) == {"model.json", "model.onnx"}
    fitted = done.judged.measured
    assert fitted.fit_s > 0
    assert fitted.fit_cpu_s > 0
    assert fitted.fit_gpu_s == 0
    assert bundle.about["export"]["asset"] == "fast_as_onnx_export"
    assert bundle.about["export"]["parity"]["decisions_flipped"] == 0
    assert "fast_as_onnx_export" in bundle.about["code"]


def test_a_model_whose_export_says_something_else_is_turned_away_even_by_force(models: Models) -> None:
    wrong = tried(models, "wrong_as_onnx", forced=True)

    assert broken(wrong) == ["checks"]
    assert "wrong_as_onnx_export 2026-02-18 is not there" in against(wrong)


def test_a_model_is_not_served_by_the_export_of_another(models: Models) -> None:
    refitted = replace(models.named("fast_as_onnx"), version="f" * 32)

    with pytest.raises(NotExported, match="and the candidate is ffffffffffff"):
        find_export(models.weekly, models.contender("fast_as_onnx"), refitted)


def test_a_model_that_is_better_but_worse_on_a_slice_is_turned_away(models: Models) -> None:
    tried(models, "plain")

    worse = tried(models, "worse_on_small")

    assert broken(worse) == ["slices"]
    assert "kind: 1" in against(worse)


def test_a_model_whose_scores_are_no_probabilities_is_turned_away(models: Models) -> None:
    assert broken(tried(models, "loud")) == ["calibrated"]


def test_a_model_with_a_corrupted_file_is_turned_away_even_by_force() -> None:
    with folder_in_memory() as folder:
        home = folder / "home"
        contest.land_days(home)
        with opened(contest.settings(home)) as session:
            session.refresh()
            models = session.models
            (stored,) = (home / "lake" / "best" / contest.LAST_WEEK).glob("*.parquet")
            os.chmod(stored, 0o644)
            data = bytearray(stored.read_bytes())
            data[len(data) // 3] ^= 1
            stored.write_bytes(data)

            assert "checks" in broken(tried(models, "best", forced=True))
            assert champion(models) is None


def test_rolling_back_restores_the_former_bundle(models: Models) -> None:
    first, second = tried(models, "plain").line, tried(models, "best").line
    assert first is not None
    assert second is not None

    started = time.process_time()
    line = models.registry.roll_back(contest.USE, who="ada", why="alerts")

    # Of its own time, which a busy machine does not lengthen.
    assert time.process_time() - started < 1
    assert line.after.bundle == first.after.bundle
    assert line.before == second.after
    assert champion(models) == "plain"


def test_rolling_back_to_a_bundle_that_is_not_whole_is_refused(models: Models) -> None:
    first = tried(models, "plain").line
    tried(models, "best")
    assert first
    file = models.registry.bundles / first.after.bundle / "model.json"
    file.write_bytes(file.read_bytes().replace(b"plain", b"plane"))

    with pytest.raises(DamagedBundle, match=r"model\.json: its bytes are not those that were promoted"):
        models.registry.roll_back(contest.USE, who="ada", why="alerts")
    assert champion(models) == "best"


def test_the_first_champion_cannot_be_rolled_back(models: Models) -> None:
    tried(models, "plain")

    with pytest.raises(PlatformError, match=r"plain 2026-02-18 is the first"):
        models.registry.roll_back(contest.USE, who="ada", why="alerts")


def test_the_gate_does_not_bring_back_what_a_person_rolled_back(models: Models) -> None:
    tried(models, "plain")
    tried(models, "best")
    models.registry.roll_back(contest.USE, who="ada", why="alerts")
    said: list[str] = []

    put_forward(models, Outcome(computed={"best": [contest.LAST_WEEK]}), run_id="r", log=said.append)

    assert champion(models) != "best"
    assert any("best 2026-02-18 is not promoted: it was rolled back" in text for text in said)


def test_after_a_run_the_gate_promotes_the_best_sound_model(models: Models) -> None:
    put_forward(models, Outcome(computed={"plain": [contest.LAST_WEEK]}), run_id="r7", log=lambda _: None)

    (line,) = models.registry.ledger.lines(contest.USE)
    assert (line.who, line.why, line.after.model) == (GATE, "after run r7", "best")


def test_of_two_promotions_at_once_the_second_is_judged_against_the_first(
    models: Models, session: Session
) -> None:
    tried(models, "plain")
    start = threading.Barrier(2)
    done: dict[str, Promotion] = {}

    def at_once(name: str) -> None:
        own = Models(session.workspace, session.heads, models.registry)
        start.wait()
        done[name] = tried(own, name)

    threads = [threading.Thread(target=at_once, args=(name,)) for name in ("better", "best")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    lines = models.registry.ledger.lines(contest.USE)
    assert [line.before for line in lines[1:]] == [line.after for line in lines[:-1]]
    assert done["best"].serves
    assert champion(models) == "best"


def test_of_two_writers_that_saw_the_same_ledger_one_is_told_no(models: Models) -> None:
    ledger = models.registry.ledger
    done = tried(models, "plain")
    assert done.line
    seen = ledger.standing(contest.USE)
    line = Line(
        "2026-03-01T00:00:00+00:00", "ada", "promote", contest.USE, "", done.line.after, done.line.after
    )

    assert [ledger.append(line, seen), ledger.append(line, seen)] == [True, False]


def _die_with_the_lock(path: str) -> None:
    with locked(Path(path)):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_promotion_that_is_killed_holding_the_lock_keeps_nobody_out(models: Models) -> None:
    lock = models.registry.ledger.path.with_suffix(".lock")
    killed = multiprocessing.get_context("spawn").Process(target=_die_with_the_lock, args=(str(lock),))
    killed.start()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL

    assert tried(models, "plain").serves


def test_a_line_that_was_cut_short_never_counted(models: Models) -> None:
    tried(models, "plain")
    path = models.registry.ledger.path
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) // 2])

    assert tried(models, "best").serves
    lines = path.read_bytes().splitlines()
    assert [json.loads(text)["after"]["model"] for text in lines] == ["plain", "best"]


def under(models: Models, limits: Limits) -> Models:
    """The same models, whose champions may do no more than this."""
    models.contenders = {
        name: replace(contender, policy=replace(contender.policy, limits=limits))
        for name, contender in models.contenders.items()
    }
    return models


def an_earlier_week(models: Models, name: str, weeks_ago: int) -> str:
    return f"{name}@{sorted(models.weekly.current(name))[-1 - weeks_ago]}"


def test_a_champion_whose_later_weeks_are_as_good_stays(models: Models) -> None:
    tried(models, "plain")
    tried(models, an_earlier_week(models, "better", 2), forced=True)
    alerts: list[str] = []

    (looked,) = look_after(models, service=None, act=True, alert=alerts.append)

    assert [week for week, _ in looked.health.matured] == ["2026-01-28", "2026-02-04", "2026-02-11"]
    assert looked.health.score_index is not None
    assert (looked.breached, looked.line, alerts) == ([], None, [])


def test_a_champion_that_falls_behind_what_it_promised_is_rolled_back_with_an_alert(models: Models) -> None:
    tried(models, "plain")
    tried(models, an_earlier_week(models, "better", 2), forced=True)
    alerts: list[str] = []

    (looked,) = look_after(
        under(models, Limits(precision_drop=-1)), service=None, act=True, alert=alerts.append
    )

    assert champion(models) == "plain"
    assert looked.line is not None
    assert (looked.line.action, looked.line.who) == ("rollback", WATCH)
    assert "average precision of week" in looked.line.why
    assert len(alerts) == 1
    assert "plain" in alerts[0]


def test_who_came_back_by_a_rollback_is_not_rolled_back_by_itself(models: Models) -> None:
    for name in ("plain", "better", "best"):
        tried(models, an_earlier_week(models, name, 2), forced=True)
    strict = under(models, Limits(precision_drop=-1))
    look_after(strict, service=None, act=True, alert=lambda _: None)
    alerts: list[str] = []

    (looked,) = look_after(strict, service=None, act=True, alert=alerts.append)

    assert champion(models) == "better"
    assert looked.breached
    assert "a person has to look" in alerts[0]


def test_a_first_champion_that_breaches_its_limits_stays_and_is_told(models: Models) -> None:
    tried(models, an_earlier_week(models, "plain", 2), forced=True)
    alerts: list[str] = []

    look_after(under(models, Limits(precision_drop=-1)), service=None, act=True, alert=alerts.append)

    assert champion(models) == "plain"
    assert "it stays: contest cannot go back" in alerts[0]


def test_a_service_that_fails_with_the_champion_brings_the_former_one_back(
    models: Models, tmp_path: Path
) -> None:
    tried(models, "plain")
    tried(models, "better")
    served = models.registry.ledger.standing(contest.USE).champion
    assert served is not None
    path = tmp_path / "health.json"
    said = InService(served.bundle, requests=5000, errors=400, p99_ms=2.0)
    path.write_text(json.dumps(asdict(replace(said, bundle="another one"))))
    look_after(models, service=path, act=True, alert=lambda _: None)
    assert champion(models) == "better"

    path.write_text(json.dumps(asdict(said)))
    look_after(models, service=path, act=True, alert=lambda _: None)

    assert champion(models) == "plain"


def test_looking_without_acting_changes_nothing(models: Models) -> None:
    tried(models, "plain")
    tried(models, an_earlier_week(models, "better", 2), forced=True)

    (looked,) = look_after(
        under(models, Limits(precision_drop=-1)), service=None, act=False, alert=lambda _: None
    )

    assert looked.breached
    assert champion(models) == "better"
