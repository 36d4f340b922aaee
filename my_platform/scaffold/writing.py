"""The files of a new domain, as a person would write them from what the samples tell."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from my_platform.scaffold.samples import IN_UNITS, Parts, Sample, SampleColumn, class_name

_TYPES = {pl.Int64(): "int", pl.Float64(): "float", pl.String(): "str", pl.Boolean(): "bool"}
# Floats are summed as so many parts of one, for sums of floats depend on their order.
_PARTS_OF_ONE = 100
# Of a line, as ruff and black have it by default.
_WIDTH = 88


def contracts_file(
    samples: Sequence[Sample], times: Mapping[str, str | None], keys: Mapping[str, str]
) -> str:
    """`contracts.py`: a contract for each sample."""
    dated = any(column.type == pl.Datetime("us") for sample in samples for column in sample.columns)
    lines = [
        '"""What the landed tables promise. Inferred from sample files: correct what is only so in them."""',
        "",
        *(["from datetime import datetime", ""] if dated else []),
        "import pandera.polars as pa",
        "from my_platform.quality.contracts import Contract",
    ]
    ends = []
    for sample in samples:
        time, key = times[sample.name], keys[sample.name]
        per = "one UTC day a file" if time else "all in one file"
        lines += ["", "", f"class {class_name(sample.name)}(pa.DataFrameModel):"]
        lines += [f'    """Rows of {sample.name}, {per}."""', ""]
        for column in sample.columns:
            lines += _field(column, column.name == key)
        lines += ["", "    class Config:", "        strict = True"]
        order = f'("{time}", "{key}")' if time else f'("{key}",)'
        ends += [
            f"{sample.name.upper()} = Contract(",
            f"    {class_name(sample.name)},",
            f"    sort_by={order},",
            *([f'    time="{time}",', "    at_least_rows=0,"] if time else []),
            ")",
        ]
    return "\n".join([*lines, "", "", *ends, ""])


def features_file(sample: Sample, parts: Parts, delay_days: int) -> str:
    """`features.py`: the feature set of the rows that a forecast is made for."""
    target, scaled = parts.target, sample.rows.schema[parts.target].is_float()
    known = [
        column
        for column in sample.columns
        if column.name not in (parts.key, parts.time, parts.entity, target)
        and (column.type.is_numeric() or column.type == pl.Boolean())
    ]
    units = f'(pl.col("{target}") * UNITS).round().cast(pl.Int64)' if scaled else f'pl.col("{target}")'
    return "\n".join(
        [
            f'"""What is known of a row before its {target} is: its own columns, and what its {parts.entity} had."""',
            "",
            "import polars as pl",
            "from my_platform.features.declaration import count, feature_set, last, total",
            "",
            f"# A row's {target} is known so many whole days after the row.",
            f"DELAY_DAYS = {delay_days}",
            "WINDOWS = (7, 28)",
            "# Sums are over whole numbers: so many units make one.",
            f"UNITS = {_PARTS_OF_ONE if scaled else 1}",
            "",
            "",
            "def mean(days: int) -> pl.Expr:",
            '    """The mean over a window; null where nothing is known."""',
            '    n, units = pl.col(f"n_{days}d"), pl.col(f"sum_{days}d")',
            "    return pl.when(n > 0).then(units / n / UNITS)",
            "",
            "",
            "history = feature_set(",
            f'    "{sample.name}_history",',
            f'    description="The row, and the {target} of its {parts.entity} before.",',
            f'    rows="validated/{sample.name}",',
            f'    entity="{parts.entity}",',
            f'    time="{parts.time}",',
            f'    order="{parts.key}",',
            f'    derive={{"{IN_UNITS}": {units}}},',
            "    aggregates={",
            f'        "last": last("{IN_UNITS}", days=28, delay_days=DELAY_DAYS),',
            '        **{f"n_{d}d": count(days=d, delay_days=DELAY_DAYS) for d in WINDOWS},',
            "        **{",
            f'            f"sum_{{d}}d": total("{IN_UNITS}", days=d, delay_days=DELAY_DAYS)',
            "            for d in WINDOWS",
            "        },",
            "    },",
            "    columns={",
            f'        "HOUR_OF_DAY": pl.col("{parts.time}").dt.hour().cast(pl.Int64),',
            f'        "DAY_OF_WEEK": pl.col("{parts.time}").dt.weekday().cast(pl.Int64),',
            *([f"        # Are these known before {target} is? If not, take them out."] if known else []),
            *(f'        "OWN_{c.name}": {_number(c)},' for c in known),
            f'        "{target}_LAST": pl.col("last") / UNITS,',
            *(f'        "{target}_MEAN_{days}D": mean({days}),' for days in (7, 28)),
            "    },",
            ")",
            "",
        ]
    )


def domain_file(name: str, samples: Sequence[Sample], times: Mapping[str, str | None], parts: Parts) -> str:
    """`__init__.py`: the assets of the domain, and the model that may become champion."""
    sample = samples[0]
    tables = []
    for each in samples:
        once = "" if times[each.name] else ", once=True"
        tables.append(f'    "{each.name}": landed_table("{each.name}", contracts.{each.name.upper()}{once}),')
    return "\n".join(
        [
            f'"""Forecasts of {parts.target} for each row of {sample.name}."""',
            "",
            "from my_platform.features.assets import feature_asset",
            "from my_platform.incremental.declare import Asset",
            "from my_platform.learning.budgets import Budget",
            "from my_platform.learning.contender import Contender",
            "from my_platform.learning.forecast import Forecast, forecast_contender",
            "from my_platform.learning.gate import Policy",
            "from my_platform.learning.health import Limits",
            "from my_platform.scaffold.parts import LandedTable, landed_table, published",
            "from my_platform.settings import Settings",
            "",
            f"from {name} import contracts, features",
            "",
            "TABLES: dict[str, LandedTable] = {",
            *tables,
            "}",
            f'ROWS = TABLES["{sample.name}"].valid',
            "HISTORY = feature_asset(features.history, rows=ROWS, events=ROWS)",
            *_assigned("INTENDED", f"Forecasts {parts.target} of {sample.name}. Say what for, and what not."),
            "BUDGET = Budget(",
            "    p99_ms=10.0,",
            "    rows_per_s=200.0,",
            "    file_bytes=16 << 20,",
            "    memory_bytes=256 << 20,",
            "    fit_s=600.0,",
            ")",
            "# Gains and drops are shares of the mean absolute error.",
            "POLICY = Policy(",
            "    inferiority=0.05,",
            "    slice_tolerance=0.1,",
            "    limits=Limits(precision_drop=0.3),",
            ")",
            "",
            "",
            "def forecast(settings: Settings) -> Forecast:",
            '    """What is forecast, from what, and when it becomes known."""',
            "    return Forecast(",
            f'        use="{name}",',
            "        rows=ROWS,",
            "        labels=ROWS,",
            "        features=[(features.history, HISTORY)],",
            f'        key="{parts.key}",',
            f'        time="{parts.time}",',
            f'        cluster="{parts.entity}",',
            f'        value="{parts.target}",',
            f'        naive="{parts.target}_MEAN_7D",',
            f'        unit="{parts.target}",',
            "        delay_days=features.DELAY_DAYS,",
            "        window_days=settings.training_window_days or 28,",
            "        rounds=settings.boosting_rounds or 100,",
            '        lightgbm={"learning_rate": 0.08, "min_data_in_leaf": 20},',
            f'        landed="{sample.name}",',
            "    )",
            "",
            "",
            "def assets(settings: Settings) -> list[Asset]:",
            '    """All assets, from landed files to evaluation reports."""',
            "    tables = [a for t in TABLES.values() for a in t.assets(settings)]",
            "    return [*tables, HISTORY, *published(forecast(settings), settings, INTENDED)]",
            "",
            "",
            "def contenders(settings: Settings) -> list[Contender]:",
            '    """The model that may become champion, and what is asked of it."""',
            "    declared = forecast(settings)",
            "    return [forecast_contender(declared, budget=BUDGET, policy=POLICY)]",
            "",
        ]
    )


def test_file(name: str, sample: Sample, parts: Parts) -> str:
    """`test_NAME.py`: that the domain loads, and that a row does not see its own value."""
    row = sample.rows.row(0, named=True)
    table = sample.name.upper()
    return "\n".join(
        [
            "from datetime import datetime, timedelta",
            "from pathlib import Path",
            "",
            "import polars as pl",
            "import pytest",
            "from my_platform.features import offline",
            "from my_platform.operations.platform import Project",
            "from my_platform.settings import Settings",
            "",
            f"from {name} import assets, contenders, contracts, features",
            "",
            "ROW = {",
            *(f'    "{column}": {_literal(value)},' for column, value in row.items()),
            "}",
            "",
            "",
            "def test_the_domain_loads(tmp_path: Path) -> None:",
            "    settings = Settings(home=tmp_path)",
            "    project = Project.of(assets(settings), contenders(settings))",
            f'    assert "{name}_lightgbm" in project.assets',
            "",
            "",
            "def test_a_row_sees_the_values_before_it_and_not_its_own() -> None:",
            "    later = {",
            "        **ROW,",
            f'        "{parts.key}": ROW["{parts.key}"] + 1,',
            f'        "{parts.time}": ROW["{parts.time}"] + timedelta(days=features.DELAY_DAYS + 1),',
            f'        "{parts.target}": 0,',
            "    }",
            f"    rows = pl.DataFrame([ROW, later], schema=dict(contracts.{table}.schema))",
            "    first, second = offline.compute(features.history, rows).rows(named=True)",
            f'    assert first["{parts.target}_LAST"] is None',
            f'    assert second["{parts.target}_LAST"] == pytest.approx(ROW["{parts.target}"], abs=0.01)',
            "",
        ]
    )


def _field(column: SampleColumn, is_key: bool) -> list[str]:
    """A column of a contract, with what the sample said above it."""
    said, given = [], []
    if is_key:
        given.append("unique=True")
    if column.nullable:
        given.append("nullable=True")
        said.append("missing in some rows")
    if column.categories:
        given.append(f"isin=[{', '.join(_literal(value) for value in column.categories)}]")
        said.append(f"{len(column.categories)} values")
    if column.low is not None and not is_key:
        low, high = _bounds(column)
        given += [f"ge={low}", f"le={high}"]
        said.append(f"{column.low:,} to {column.high:,}")
    elif column.unique and not is_key:
        said.append("another one in each row: may be a key")
    kind = _TYPES.get(column.type, "datetime")
    comment = [f"    # In the sample: {'; '.join(said)}."] if said else []
    line = f"    {column.name}: {kind}" + (f" = pa.Field({', '.join(given)})" if given else "")
    if len(line) <= _WIDTH:
        return [*comment, line]
    inside = [f"        {part}," for part in given] if column.categories else [f"        {', '.join(given)}"]
    return [*comment, f"    {column.name}: {kind} = pa.Field(", *inside, "    )"]


def _bounds(column: SampleColumn) -> tuple[Any, Any]:
    """A range with room for what the sample does not have: its own width to both sides; no sign that it has not."""
    low, high = float(column.low), float(column.high)
    room = max(high - low, abs(high), 1.0)
    least = 0 if low >= 0 else -_round(abs(low) + room)
    most = 0 if high < 0 else _round(high + room)
    return (float(least), float(most)) if column.type == pl.Float64() else (int(least), int(most))


def _round(value: float) -> float:
    """The next larger number of one digit and zeros."""
    power = 10.0 ** math.floor(math.log10(value))
    return math.ceil(value / power) * power


def _number(column: SampleColumn) -> str:
    cast = ".cast(pl.Int64)" if column.type == pl.Boolean() else ""
    return f'pl.col("{column.name}"){cast}'


def _assigned(name: str, text: str) -> list[str]:
    line = f'{name} = "{text}"'
    return [line] if len(line) <= _WIDTH else [f"{name} = (", f'    "{text}"', ")"]


def _literal(value: Any) -> str:
    if isinstance(value, str):
        text = repr(value)
        return text if text.startswith('"') or '"' in text else f'"{text[1:-1]}"'
    return repr(value).replace("datetime.datetime(", "datetime(")
