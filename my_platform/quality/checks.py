"""Checks: a small daily table that says of each partition what is unlike the days before it.

The results are an asset like any other, computed from profiles, so that they are exact: a check is computed again
when what it looked at has changed, and at no other time. A check never blocks and never filters.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, astuple
from typing import Any

import polars as pl

from my_platform.incremental.bucketed import require_whole
from my_platform.incremental.checks import ERROR, WARN, Check, CheckResult
from my_platform.incremental.declare import (
    EXPECTED,
    Asset,
    Batch,
    Column,
    Grain,
    Produced,
    Read,
    ordinal,
    same,
)
from my_platform.quality import judging
from my_platform.quality.judging import Day, Result
from my_platform.quality.profiles import Profile, read_profile, table_name
from my_platform.quality.watch import Watch

PREFIX = "checks/"
HISTORY_DAYS = 28
KEY_DAYS = 7
_MOST_NAMED = 3

COLUMNS = {
    "check": Column(pl.String(), "what was checked"),
    "column": Column(pl.String(), "of which column; empty for the whole table"),
    "measure": Column(pl.String(), "the number that was looked at"),
    "passed": Column(pl.Boolean(), "whether it is as expected, or could not be judged"),
    "severity": Column(pl.String(), "`warn` or `error` of a check that failed, else null"),
    "value": Column(pl.Float64(), "the number"),
    "lower": Column(pl.Float64(), "the least that was expected; null where it could not be judged"),
    "upper": Column(pl.Float64(), "the most that was expected; null where it could not be judged"),
    "days": Column(pl.Int64(), "days of history that it was held against"),
    "message": Column(pl.String(), "what was found, in words; empty where all is well"),
}

NAMES = {
    "volume": "The number of rows is as on the days before, or on the same weekdays.",
    "nulls": "The share of rows without a value is as on the days before, for each column.",
    "ranges": "The least and greatest values are like those of the days before.",
    "drift": "The distribution of each watched column is that of the days before.",
    "label_drift": "The share of true labels is as on the days before.",
    "keys_over_days": f"No key of the day comes again from one of the {KEY_DAYS - 1} days before.",
}
_DAILY_ONLY = ("volume", "label_drift", "drift", "ranges", "keys_over_days")
_JUDGES = (
    judging.volume,
    judging.nulls,
    judging.ranges,
    judging.drifts,
    judging.label_drift,
)


def check_table(validated: Asset, profiles: Asset, watch: Watch, **catalogue: Any) -> Asset:
    """The checks of each partition of a validated table, below ``checks/``.

    A day is judged by its own profile, by the profiles of the ``HISTORY_DAYS`` days before, as many as there are,
    and by the keys of the last ``KEY_DAYS`` days. Of a table without partitions there is no history.
    """
    daily = validated.grain is not Grain.ONCE
    reads = {"profile": same(profiles.name)}
    if daily:
        reads["history"] = Read(profiles.name, -HISTORY_DAYS, -1, "pass", at_least=0)
    if daily and watch.keys:
        reads["keys"] = Read(validated.name, 1 - KEY_DAYS, 0, "pass", columns=watch.keys)
    else:
        # Not looked at: what is checked is told again whenever it has changed.
        reads["checked"] = same(validated.name)

    def compute(batch: Batch) -> Iterator[tuple[str, Produced | Exception]]:
        profiles_read: dict[tuple[str, str], Profile] = {}
        for key in batch.keys:
            try:
                profile = _profiles(batch, "profile", key, profiles_read)[key]
                before = _profiles(batch, "history", key, profiles_read) if "history" in reads else {}
                if "keys" in reads:
                    require_whole(batch, ["keys"], key)
                keys = batch.inputs("keys", key) if "keys" in reads else {}
                found = results_of(key, profile, before, keys, watch)
                yield key, Produced(as_table(found), checks=answers(found))
            except EXPECTED as error:
                yield key, error

    return Asset(
        name=f"{PREFIX}{table_name(validated.name)}",
        grain=validated.grain,
        reads=reads,
        compute=compute,
        code=(results_of, as_table, read_profile),
        parameters={"watch": asdict(watch)},
        columns=COLUMNS,
        own_checks=tuple(
            Check(name, text, about=validated.name) for name, text in names_of(validated.grain, watch).items()
        ),
        **{
            "group": "quality",
            "description": f"What each partition of {validated.name} has that the days before it do not.",
            **catalogue,
        },
    )


def names_of(grain: Grain, watch: Watch) -> dict[str, str]:
    """The checks that a table has, with their descriptions."""
    without = {
        *(_DAILY_ONLY if grain is Grain.ONCE else ()),
        *(() if watch.label else ("label_drift",)),
        *(() if watch.keys else ("keys_over_days",)),
        *(() if watch.columns else ("ranges", "drift")),
    }
    return {name: text for name, text in NAMES.items() if name not in without}


def results_of(
    key: str,
    profile: Profile,
    before: Mapping[str, Profile],
    keys: Mapping[str, pl.DataFrame],
    watch: Watch,
) -> list[Result]:
    """The results of one partition, in a fixed order.

    Args:
        before: profiles of the days before, by partition; none for a table without partitions.
        keys: the key columns of the day itself and of the days before, by partition.
    """
    day = Day(ordinal(key), profile, {ordinal(other): found for other, found in before.items()})
    wanted = names_of(Grain.DAY if key else Grain.ONCE, watch)
    found = [result for judge in _JUDGES for result in judge(day, watch) if result.check in wanted]
    if "keys_over_days" in wanted:
        found.append(_repeated_keys(key, keys))
    return found


def as_table(results: Sequence[Result]) -> pl.DataFrame:
    """Results as a table with the columns ``COLUMNS``."""
    schema = {name: column.type for name, column in COLUMNS.items()}
    return pl.DataFrame([astuple(result) for result in results], schema=schema, orient="row")


def answers(results: Sequence[Result]) -> list[CheckResult]:
    """The results of each check taken together."""
    found = []
    for check in dict.fromkeys(result.check for result in results):
        mine = [result for result in results if result.check == check]
        failed = [result for result in mine if not result.passed]
        found.append(
            CheckResult(
                check=check,
                passed=not failed,
                severity=ERROR if any(result.severity == ERROR for result in failed) else WARN,
                description="; ".join(dict.fromkeys(r.message for r in failed or mine if r.message)),
                metadata={
                    **{_label(result): result.value for result in mine},
                    "expected": {
                        "days of history": max(result.days for result in mine),
                        **{_label(r): [r.lower, r.upper] for r in mine if r.upper is not None},
                    },
                },
            )
        )
    return found


def _label(result: Result) -> str:
    return f"{result.column} {result.measure}".strip()


def _profiles(batch: Batch, read: str, key: str, known: dict[tuple[str, str], Profile]) -> dict[str, Profile]:
    """The profiles that a read gives, each taken apart once."""
    found = {}
    tables = batch.inputs(read, key)
    for partition, version in batch.versions(read, key).items():
        if (partition, version) not in known:
            known[partition, version] = read_profile(tables[partition])
        found[partition] = known[partition, version]
    return found


def _repeated_keys(key: str, keys: Mapping[str, pl.DataFrame]) -> Result:
    """Keys of the day that one of the days before has as well."""
    today = keys[key]
    names = today.columns
    found = {
        other: table.join(today, on=names, how="semi", nulls_equal=True)
        for other, table in keys.items()
        if other != key
    }
    again = {other: rows for other, rows in found.items() if rows.height}
    message = ""
    if again:
        other, rows = next(iter(again.items()))
        example = ", ".join(f"{name} {value}" for name, value in zip(names, rows.row(0), strict=True))
        days = ", ".join(list(again)[:_MOST_NAMED]) + (" and more" if len(again) > _MOST_NAMED else "")
        total = sum(rows.height for rows in again.values())
        message = f"{total:,} keys came before, on {days}; for example {example} on {other}"
    return Result(
        check="keys_over_days",
        column=", ".join(names),
        measure="keys that came before",
        passed=not again,
        severity=ERROR if again else None,
        value=float(sum(rows.height for rows in again.values())),
        lower=0.0,
        upper=0.0,
        days=len(found),
        message=message,
    )
