"""What the landed tables of electricity demand promise."""

from datetime import datetime

import pandera.polars as pa
import polars as pl

from my_platform.quality.contracts import Contract
from my_platform.quality.watch import Watch


class Meters(pa.DataFrameModel):
    """Meters and where they stand."""

    METER_ID: int = pa.Field(unique=True, ge=0, description="the meter")
    REGION_ID: int = pa.Field(ge=0, description="the region whose weather it has")
    KIND: str = pa.Field(isin=["home", "shop", "plant"], description="what it supplies")

    class Config:
        strict = True
        name = "meters"


class Hours(pa.DataFrameModel):
    """Hours of one UTC day that a meter's demand has to be known for, planned the day before."""

    HOUR_ID: int = pa.Field(unique=True, description="identifies the hour of the meter")
    STARTS_AT: datetime = pa.Field(description="when the hour begins, UTC")
    METER_ID: int = pa.Field(ge=0, description="the meter")
    REGION_ID: int = pa.Field(ge=0, description="its region")
    HOLIDAY: bool = pa.Field(description="whether the day is a holiday there")

    class Config:
        strict = True
        name = "hours"


class Readings(pa.DataFrameModel):
    """What meters counted, as they were read out on one UTC day: the day after the next one."""

    HOUR_ID: int = pa.Field(unique=True, description="the hour of the meter")
    READ_AT: datetime = pa.Field(description="when it was read out, a midnight in UTC")
    WATT_HOURS: int = pa.Field(ge=0, lt=10_000_000, description="demand of the hour")

    # The first hour of a day has to know what the others do.
    @pa.check("READ_AT", name="at_midnight", error="at_midnight")
    def at_midnight(cls, data: pa.PolarsData) -> pl.LazyFrame:
        return data.lazyframe.select(pl.col(data.key) == pl.col(data.key).dt.truncate("1d"))

    class Config:
        strict = True
        name = "readings"


class Weather(pa.DataFrameModel):
    """Temperatures of one UTC day by region and hour, forecast the day before."""

    WEATHER_ID: int = pa.Field(unique=True, description="identifies the region and hour")
    VALID_AT: datetime = pa.Field(description="the hour, UTC")
    REGION_ID: int = pa.Field(ge=0, description="the region")
    DECI_CELSIUS: int = pa.Field(ge=-600, le=600, description="temperature in tenths of a degree")

    class Config:
        strict = True
        name = "weather"


METERS = Contract(Meters, sort_by=("METER_ID",))
HOURS = Contract(Hours, sort_by=("STARTS_AT", "HOUR_ID"), time="STARTS_AT")
READINGS = Contract(Readings, sort_by=("READ_AT", "HOUR_ID"), time="READ_AT", at_least_rows=0)
WEATHER = Contract(Weather, sort_by=("VALID_AT", "WEATHER_ID"), time="VALID_AT")

WATCH_METERS = Watch()
WATCH_HOURS = Watch(keys=("HOUR_ID",), columns=("STARTS_AT", "METER_ID"))
WATCH_READINGS = Watch(keys=("HOUR_ID",), columns=("WATT_HOURS",))
WATCH_WEATHER = Watch(keys=("WEATHER_ID",), columns=("REGION_ID", "DECI_CELSIUS"))
