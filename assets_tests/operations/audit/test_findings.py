"""Each finding is provoked by a ledger that has it, with its exact figure; a ledger without any has none."""

from dataclasses import replace
from datetime import date, timedelta

from my_platform.operations.alerts.conditions import Known, conditions
from my_platform.operations.audit.findings import FailedWork, Finding, Spendings, findings
from my_platform.operations.audit.trends import Computed, trends
from my_platform.storage.trace_index import Cost

WEEK_S = 7 * 86_400.0


def cost(
    asset: str,
    partition: str,
    fingerprint: str = "f",
    run_id: str = "r1",
    at_s: float = 100.0,
    wall_s: float = 2.0,
) -> Cost:
    return Cost(asset, partition, fingerprint, run_id, at_s, wall_s, wall_s, 0, 1_000, 50_000)


def values(*ledger: Cost, version: str = "") -> dict[tuple[str, str, str], Computed]:
    return {(c.asset, c.partition, c.fingerprint): Computed(version or c.fingerprint, 10) for c in ledger}


def only(spent: Spendings) -> Finding:
    (finding,) = findings(spent)
    return finding


def growing(times: float, weeks: int = 10) -> list[Cost]:
    return [
        cost("a", f"d{week}", f"f{week}", at_s=week * WEEK_S + 1, wall_s=1 + (times - 1) * week / (weeks - 1))
        for week in range(weeks)
    ]


def test_a_healthy_ledger_has_no_finding() -> None:
    ledger = [cost("model", f"w{n}", f"f{n}", at_s=n * WEEK_S) for n in range(20)]
    ledger += [cost("evaluation", f"w{n}", f"f{n}", at_s=n * WEEK_S, wall_s=1.0) for n in range(20)]
    sets = {"models": frozenset({"model"}), "evaluations": frozenset({"evaluation"})}

    assert findings(Spendings(ledger, values(*ledger), **sets)) == []  # type: ignore[arg-type]
    assert findings(Spendings()) == []


def test_two_runs_at_once_are_a_lost_race() -> None:
    found = only(Spendings([cost("a", "d"), cost("a", "d", run_id="r2", at_s=101.0)]))

    assert (found.kind, found.saves_s, found.evidence) == ("lost_race", 2.0, ["a d (run r2)"])
    assert found.figure == "1 times, 2.0 s, 1,000 bytes read"


def test_a_value_that_was_removed_and_needed_is_computed_again() -> None:
    found = only(Spendings([cost("a", "d"), cost("a", "d", run_id="r2", at_s=200.0, wall_s=3.0)]))

    assert (found.kind, found.saves_s) == ("computed_again", 3.0)


def test_other_inputs_that_gave_the_same_value_were_read_in_vain() -> None:
    ledger = [cost("a", "d"), cost("a", "d", "g", "r2", 200.0)]

    found = only(Spendings(ledger, values(*ledger, version="v")))

    assert (found.kind, found.saves_s) == ("read_unneeded", 2.0)
    assert "the 1,000 bytes read" in found.what
    assert findings(Spendings(ledger, values(*ledger))) == []


def test_a_window_whose_days_are_read_for_each_partition_anew_is_told() -> None:
    days = [Cost("day", f"d{n}", "f", "r", n, 1.0, 1.0, 0, 0, 100) for n in range(50)]
    windows = [
        Cost("window", f"d{n}", "f", "r", 100 + n, 2.0, 2.0, 0, 100 * min(n + 1, 31), 9) for n in range(50)
    ]
    reads = {"window": frozenset({"day"})}
    read = sum(cost.read_bytes for cost in windows)

    found = only(Spendings([*days, *windows], reads=reads))

    assert (found.kind, found.saves_s) == ("read_often", 100.0 * (1 - 5_000 / read))
    assert found.figure == f"{read:,} bytes read of inputs that hold 5,000: 22 times over"
    # In few runs each day is read once or twice; and what is little beside all that is read is not told.
    assert (
        findings(Spendings([*days, *(replace(cost, read_bytes=150) for cost in windows)], reads=reads)) == []
    )
    other = Cost("other", "", "f", "r", 200.0, 1.0, 1.0, 0, 10 * read, 9)
    assert findings(Spendings([*days, *windows, other], reads=reads)) == []


def test_of_a_failed_run_what_it_committed_is_not_lost() -> None:
    found = only(Spendings(failed=[FailedWork("r1", 10.0, 4.0), FailedWork("r2", 3.0, 5.0)]))

    assert (found.kind, found.saves_s, found.figure) == ("failed_runs", 6.0, "6.0 s in 1 runs")


def test_evaluation_is_told_where_it_takes_longer_than_half_of_the_fits() -> None:
    spent = Spendings(
        [cost("model", "w", wall_s=10.0), cost("evaluation", "w", wall_s=10.0)],
        models=frozenset({"model"}),
        evaluations=frozenset({"evaluation"}),
    )

    found = only(spent)

    assert (found.kind, found.saves_s) == ("evaluation", 5.0)
    assert found.figure == "50% of 20.0 s of training and evaluation"


def test_trees_that_hold_a_device_are_told() -> None:
    found = only(Spendings([cost("trees", "w")], trees_on_gpu=frozenset({"trees"})))

    assert (found.kind, found.saves_s, found.figure) == ("trees_on_gpu", 2.0, "2.0 s in 1 fits")


def held(partition: str, idle_s: float | None, waited_s: float | None = 0.0) -> Cost:
    """A fit of ten seconds on two devices."""
    return replace(cost("net", partition, wall_s=10.0), gpu_s=20.0, gpu_idle_s=idle_s, gpu_waited_s=waited_s)


def test_devices_that_are_held_and_have_nothing_to_do_are_told() -> None:
    found = only(Spendings([held("w1", 12.0, 8.0), held("w2", 8.0), held("w3", None, None)]))

    assert (found.kind, found.saves_s) == ("idle_device", 10.0)
    assert found.figure == "50% of 40.0 s in 2 fits; 8.0 s of it waiting for data"
    assert "hold no device" in found.do


def test_devices_that_wait_for_data_more_than_for_anything_else_want_it_faster() -> None:
    assert "shards that are read faster" in only(Spendings([held("w1", 12.0, 8.0)])).do


def test_devices_that_have_work_for_most_of_the_time_or_of_which_nothing_is_known_are_not_told() -> None:
    assert findings(Spendings([held("w1", 5.0, 5.0), held("w2", None, None)])) == []


def test_many_small_partitions_cost_at_least_what_the_cheapest_took() -> None:
    ledger = [Cost("a", f"d{n}", "f", "r", n, 1.0 + n, 0.0, 0, 0, 2_000) for n in range(700)]

    found = only(Spendings(ledger, daily=frozenset({"a"})))

    assert (found.kind, round(found.saves_s, 6)) == ("small_files", 600.0)
    assert found.figure == "700 of 2,000 bytes (median), 1,400,000 bytes in all"
    assert findings(Spendings(ledger[:365], daily=frozenset({"a"}))) == []


def test_seconds_per_row_that_double_over_ten_weeks_are_a_trend_and_an_alert() -> None:
    ledger = growing(2.0)

    (trend,) = trends(ledger, values(*ledger), {})

    assert (trend.asset, trend.measure, trend.weeks) == ("a", "processor seconds per row", 10)
    assert abs(trend.times - 2.0) < 1e-9
    assert abs(trend.slope - 0.1 / 9) < 1e-9
    assert only(Spendings(ledger, values(*ledger))).kind == "grows"
    (alert,) = conditions(Known(trends=[trend]))
    assert (alert.key, alert.severity) == ("trend a processor seconds per row", "warning")


def test_few_weeks_little_growth_and_one_bad_week_are_no_trend() -> None:
    few, little = growing(2.0, weeks=7), growing(1.1)
    flat = growing(1.0)
    flat[-1] = cost("a", "d9", "f9", at_s=9 * WEEK_S + 1, wall_s=50.0)

    assert [trends(ledger, values(*ledger), {}) for ledger in (few, little, flat)] == [[], [], []]


def test_windows_that_fill_are_no_trend() -> None:
    first = date(2026, 1, 1)
    ledger = [
        Cost(
            "a",
            str(first + timedelta(weeks=n)),
            f"f{n}",
            "r",
            n * WEEK_S + 1,
            1.0,
            0.1,
            0,
            100 * min(n + 1, 10),
            0,
        )
        for n in range(20)
    ]

    (filling,) = trends(ledger, values(*ledger), {})
    assert filling.measure == "bytes read per row"
    assert trends(ledger, values(*ledger), {"a": 63}) == []


def test_what_saves_most_comes_first() -> None:
    ledger = [cost("a", "d"), cost("a", "d", run_id="r2", at_s=200.0)]

    found = findings(Spendings(ledger, failed=[FailedWork("r3", 10.0, 0.0)]))

    assert [finding.saves_s for finding in found] == [10.0, 2.0]
