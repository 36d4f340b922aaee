"""Features of a meter's hour: what it took at that hour of late, what it takes of late at all, and the weather.

Readings become known two days later, at midnight: every hour of a day sees the same ones, up to the day before
yesterday. The naive forecast is the value of the last known day of the same weekday: a week ago.
"""

import polars as pl

from my_platform.features.declaration import count, feature_set, last, maximum, minimum, total
from my_platform.incremental.declare import Column, Produced, same, table
from my_platform.incremental.declare import last as last_days

HOURS_A_DAY, HOURS_A_WEEK = 24, 168
LONGEST_WINDOW_DAYS = 30
NAIVE = "WATT_HOURS_A_WEEK_AGO"
_SATURDAY = 6


def hour_of_day() -> pl.Expr:
    return pl.col("STARTS_AT").dt.hour().cast(pl.Int64)


def hour_of_week() -> pl.Expr:
    return (pl.col("STARTS_AT").dt.weekday().cast(pl.Int64) - 1) * HOURS_A_DAY + hour_of_day()


PROFILES = {
    "METER_HOUR": pl.col("METER_ID") * HOURS_A_DAY + hour_of_day(),
    "METER_WEEK_HOUR": pl.col("METER_ID") * HOURS_A_WEEK + hour_of_week(),
}
_PROFILE_COLUMNS = {
    "METER_HOUR": Column(pl.Int64(), "the meter and the hour of the day"),
    "METER_WEEK_HOUR": Column(pl.Int64(), "the meter and the hour of the week"),
}
_OF_HOURS = {
    "HOUR_ID": Column(pl.Int64(), "identifies the hour of the meter"),
    "STARTS_AT": Column(pl.Datetime("us"), "when the hour begins, UTC"),
    "METER_ID": Column(pl.Int64(), "the meter"),
}


@table(
    "meter_hours",
    reads={"hours": same("validated/hours")},
    group="features",
    columns={
        **_OF_HOURS,
        "REGION_ID": Column(pl.Int64(), "its region"),
        "HOLIDAY": Column(pl.Boolean(), "whether the day is a holiday there"),
        "WEEKEND": Column(pl.Boolean(), "whether it is Saturday or Sunday"),
        **_PROFILE_COLUMNS,
    },
)
def meter_hours(hours: pl.LazyFrame) -> pl.LazyFrame:
    """The hours that a forecast is made for, and which others they are like."""
    weekend = pl.col("STARTS_AT").dt.weekday() >= _SATURDAY
    return hours.with_columns(weekend.alias("WEEKEND"), **PROFILES)


@table(
    "known_demand",
    reads={
        "readings": same("validated/readings", at_least=0),
        "hours": last_days("meter_hours", LONGEST_WINDOW_DAYS, columns=(*_OF_HOURS, *PROFILES)),
    },
    group="features",
    columns={
        **_OF_HOURS,
        **_PROFILE_COLUMNS,
        "READ_AT": Column(pl.Datetime("us"), "when it was read out, UTC"),
        "WATT_HOURS": Column(pl.Int64(), "demand of the hour"),
    },
)
def known_demand(readings: pl.LazyFrame, hours: pl.LazyFrame) -> Produced:
    """What was read out on a day, with the hours that it is about; readings of no known hour go to quarantine."""
    found = readings.join(hours, on="HOUR_ID", how="left").collect()
    lost = found.filter(pl.col("STARTS_AT").is_null()).select(
        *("HOUR_ID", "READ_AT", "WATT_HOURS"),
        rule=pl.lit("unknown_hour"),
        reason=pl.format("no hour {} was planned in the 30 days before", "HOUR_ID"),
        column=pl.lit("HOUR_ID"),
        value=pl.col("HOUR_ID").cast(pl.String),
    )
    rows = found.filter(pl.col("STARTS_AT").is_not_null()).select(
        *_OF_HOURS, *PROFILES, "READ_AT", "WATT_HOURS"
    )
    counted = {"landed_rows": found.height, "quarantined_rows": lost.height}
    return Produced(rows.sort("READ_AT", "HOUR_ID"), lost.sort("HOUR_ID"), counted)


def mean(sum_: str, n: str) -> pl.Expr:
    """The mean of what was counted; null where nothing was."""
    return pl.when(pl.col(n) > 0).then(pl.col(sum_) / pl.col(n))


same_hour = feature_set(
    "same_hour_demand",
    description="The meter's hour, and what the meter took at that hour of the days before.",
    rows="meter_hours",
    events="known_demand",
    entity="METER_HOUR",
    time="STARTS_AT",
    order="HOUR_ID",
    event_time="READ_AT",
    aggregates={
        "last_known": last("WATT_HOURS", days=7),
        **{f"n_{days}d": count(days=days) for days in (7, 28)},
        **{f"sum_{days}d": total("WATT_HOURS", days=days) for days in (7, 28)},
    },
    columns={
        "HOUR_OF_DAY": hour_of_day(),
        "DAY_OF_WEEK": pl.col("STARTS_AT").dt.weekday().cast(pl.Int64),
        "IS_HOLIDAY": pl.col("HOLIDAY").cast(pl.Int64),
        "SAME_HOUR_LAST": pl.col("last_known"),
        "SAME_HOUR_MEAN_7D": mean("sum_7d", "n_7d"),
        "SAME_HOUR_MEAN_28D": mean("sum_28d", "n_28d"),
    },
)
same_week_hour = feature_set(
    "same_week_hour_demand",
    description="What the meter took at that hour of the week in the weeks before.",
    rows="meter_hours",
    events="known_demand",
    entity="METER_WEEK_HOUR",
    time="STARTS_AT",
    order="HOUR_ID",
    event_time="READ_AT",
    aggregates={
        "a_week_ago": last("WATT_HOURS", days=7),
        "n": count(days=28),
        "sum": total("WATT_HOURS", days=28),
    },
    columns={NAIVE: pl.col("a_week_ago"), "WEEK_HOUR_MEAN_28D": mean("sum", "n")},
)
recent = feature_set(
    "recent_demand",
    description="What the meter took at all of late.",
    rows="meter_hours",
    events="known_demand",
    entity="METER_ID",
    time="STARTS_AT",
    order="HOUR_ID",
    event_time="READ_AT",
    aggregates={
        "n_1d": count(days=1),
        "sum_1d": total("WATT_HOURS", days=1),
        "least_7d": minimum("WATT_HOURS", days=7),
        "most_7d": maximum("WATT_HOURS", days=7),
    },
    columns={
        "METER_MEAN_1D": mean("sum_1d", "n_1d"),
        "METER_LEAST_7D": pl.col("least_7d"),
        "METER_MOST_7D": pl.col("most_7d"),
    },
)
region_weather = feature_set(
    "region_weather",
    description="How warm it is forecast to be in the meter's region, and was in the day before.",
    rows="meter_hours",
    events="validated/weather",
    entity="REGION_ID",
    time="STARTS_AT",
    order="HOUR_ID",
    event_time="VALID_AT",
    event_order="WEATHER_ID",
    aggregates={
        "now": last("DECI_CELSIUS", days=1),
        "n": count(days=1),
        "sum": total("DECI_CELSIUS", days=1),
    },
    columns={"CELSIUS": pl.col("now") / 10, "CELSIUS_MEAN_1D": mean("sum", "n") / 10},
)
FEATURE_SETS = (same_hour, same_week_hour, recent, region_weather)
