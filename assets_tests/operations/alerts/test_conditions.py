"""What there is to alert of follows from what is known, each with a key, a place and a next step."""

from hypothesis import given
from hypothesis import strategies as st

from my_platform.learning.ledger import Line, Served
from my_platform.operations.alerts.conditions import (
    Ailing,
    FailedCheck,
    FailedRun,
    Known,
    Refusal,
    conditions,
    moments,
)

REFUSAL = Refusal("raw/orders", "2026-01-08", "orders/2026-01-08.csv: no column CENTS")
DRIFT = FailedCheck("validated/orders", "2026-01-08", "drift", "warn", "AMOUNT is unlike the days before")
ROWS = FailedCheck("validated/orders", "2026-01-08", "contract", "error", "3 rows are in quarantine")
OLD, NEW = (Served("model", week, "v", "r", "b") for week in ("2026-01-07", "2026-01-14"))
PROMOTED = Line("2026-01-15T00:00:00+00:00", "gate", "promote", "fraud", "after run x", OLD, NEW)
BACK = Line("2026-01-16T00:00:00+00:00", "ada", "rollback", "fraud", "it is slow", NEW, OLD)
ALL = Known(
    refused=[REFUSAL],
    failed_checks=[DRIFT, ROWS],
    unusable={"orders/..": "orders/.. is no name of a file"},
    missing={"raw/orders": ["2026-01-09"]},
    ailing=[Ailing("fraud", "model@2026-01-14", ["p99 of a request is 80.0 ms, limit 50 ms"])],
    spent={"2026-01-15": 7_300.0, "2026-01-14": 10.0},
    budget_cpu_s=7_200.0,
    over_budget={"fraud": ["files of 9 bytes, limit 8"]},
    failed_runs=[FailedRun("r1", "weekly_models", "wave", "killed")],
    promotions=[PROMOTED, BACK],
)


def test_each_kind_has_its_severity_and_its_next_step() -> None:
    found = [*conditions(ALL), *moments(ALL)]
    assert [(a.kind, a.severity, a.command) for a in found] == [
        ("refused", "error", "my-platform why raw/orders 2026-01-08"),
        ("unreadable", "error", "my-platform refresh"),
        ("drift", "warning", "my-platform checks validated/orders 2026-01-08"),
        ("check", "error", "my-platform checks validated/orders 2026-01-08"),
        ("freshness", "error", "my-platform plan"),
        ("health", "error", "my-platform health"),
        ("budget", "warning", "my-platform costs --by run"),
        ("budget", "warning", "my-platform models"),
        ("run_failed", "error", "my-platform refresh"),
        ("promotion", "info", "my-platform promotions"),
        ("rollback", "warning", "my-platform models"),
    ]
    assert "7,300 processor seconds were spent on 2026-01-15, and 7,200 a day are allowed" in found[6].said
    assert found[-1].said.startswith("model@2026-01-07 is champion of fraud again, model@2026-01-14 no more")


def test_a_check_that_no_command_lists_leads_to_what_its_partition_was_made_of() -> None:
    failed = FailedCheck("training_set", "2026-01-14", "leaks", "error", "", listed=False)
    assert [alert.command for alert in conditions(Known(failed_checks=[failed]))] == [
        "my-platform why training_set 2026-01-14"
    ]


def test_nothing_known_is_nothing_to_say() -> None:
    assert conditions(Known()) == moments(Known()) == []


def test_a_run_that_failed_for_refused_partitions_alone_is_told_by_those() -> None:
    run = FailedRun("r2", "refresh", "r2", "refused", problems=[REFUSAL.reason])
    known = Known(refused=[REFUSAL], failed_runs=[run])
    assert moments(known) == []
    assert [alert.run_id for alert in conditions(known)] == ["r2"]
    other = FailedRun("r3", "refresh", "r3", "", problems=[REFUSAL.reason, "the disk is full"])
    assert [alert.run_id for alert in moments(Known(refused=[REFUSAL], failed_runs=[other]))] == ["r3"]
    assert len(moments(Known(failed_runs=[run]))) == 1


def test_attempts_at_the_same_are_one_alert() -> None:
    runs = [FailedRun(f"r{n}", "daily_tables", "wave", "killed") for n in range(3)]
    assert [alert.key for alert in moments(Known(failed_runs=runs))] == ["run wave"]


PLACES = st.tuples(st.sampled_from(["raw/a", "raw/b"]), st.sampled_from(["", "2026-01-07", "2026-01-08"]))


@given(
    st.lists(PLACES, unique=True),
    st.lists(st.tuples(PLACES, st.sampled_from(["drift", "nulls"])), unique=True),
    st.sets(st.sampled_from(["2026-01-07", "2026-01-08"])),
)
def test_each_fact_is_one_alert_with_a_key_of_its_own(
    refused: list[tuple[str, str]], failed: list[tuple[tuple[str, str], str]], days: set[str]
) -> None:
    known = Known(
        refused=[Refusal(asset, partition, f"{asset} {partition}") for asset, partition in refused],
        failed_checks=[FailedCheck(*place, check, "warn", "") for place, check in failed],
        missing={"raw/a": sorted(days)},
    )
    found = conditions(known)
    assert len({alert.key for alert in found}) == len(found) == len(refused) + len(failed) + len(days)
    assert found == conditions(known)
