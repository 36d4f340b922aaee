"""A dbt project of the shipped marts and a few more, parsed once, and days of small frames to feed it."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from my_platform.marts.manifest import Mart, load_marts
from my_platform.marts.prepare import ensure_manifest
from my_platform.marts.runner import MartRun, run_marts

SHIPPED = Path(__file__).parents[2] / "dbt"

# A mart over a window that also makes rows for days nobody asked for, through a step that is no mart; a mart
# of a mart; and one that reads what it does not declare.
MORE = {
    "macros/window_days.sql": """
{% macro window_days() %}{{ day_span() }}{% endmacro %}
{% macro day_span() %}2{% endmacro %}
""",
    "models/marts/plain_transactions.sql": """
{{ config(materialized='ephemeral', contract={'enforced': false}, post_hook=[]) }}
select partition_day, CUSTOMER_ID as customer_id from {{ source('platform', 'validated_transactions') }}
""",
    "models/marts/cards_in_window.sql": """
with days as (select distinct partition_day from {{ ref('plain_transactions') }})

select days.partition_day, cast(count(distinct customer_id) as bigint) as cards
from days
inner join {{ ref('plain_transactions') }} as transactions
    on transactions.partition_day between days.partition_day - {{ window_days() }} and days.partition_day
group by days.partition_day
order by days.partition_day
""",
    "models/marts/doubled_cards.sql": """
select partition_day, 2 * cards as doubled from {{ ref('cards_in_window') }} order by partition_day
""",
    "models/marts/peeking.sql": """
select date '2018-04-01' as partition_day, content from read_text('/etc/hostname')
""",
    "models/marts/more.yml": """
version: 2
models:
  - name: cards_in_window
    description: Cards seen on a day and the two before it.
    config:
      meta:
        my_platform:
          asset: marts/cards_in_window
          reads: {validated_transactions: {first: -2, gaps: pass}}
    columns:
      - {name: partition_day, data_type: date}
      - name: cards
        data_type: bigint
        data_tests:
          # Three days hold this many cards, one or two do not.
          - within: {arguments: {least: 45}}
  - name: doubled_cards
    config: {meta: {my_platform: {asset: marts/doubled_cards}}}
    columns:
      - {name: partition_day, data_type: date}
      - name: doubled
        data_type: bigint
        data_tests:
          - within: {arguments: {most: 0}, config: {severity: warn}}
  - name: peeking
    config: {meta: {my_platform: {asset: marts/peeking}}}
    columns:
      - {name: partition_day, data_type: date}
      - {name: content, data_type: varchar}
""",
}

Files = Mapping[str, Mapping[str, Path]]
Run = Callable[[Sequence[str], Files, Sequence[str]], MartRun]


@dataclass(frozen=True)
class Project:
    """A dbt project with its parse cache."""

    folder: Path
    target: Path

    def marts(self, vars: Mapping[str, object] | None = None) -> dict[str, Mart]:
        return {mart.name: mart for mart in load_marts(ensure_manifest(self.folder, self.target), vars)}

    def copied_to(self, folder: Path) -> "Project":
        return Project(shutil.copytree(self.folder, folder / "dbt"), folder / "target")


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("marts")
    copied = Project(SHIPPED, SHIPPED).copied_to(folder)
    for name, text in MORE.items():
        (copied.folder / name).write_text(text.lstrip())
    ensure_manifest(copied.folder, copied.target)
    return copied


@pytest.fixture(scope="session")
def days() -> list[str]:
    return [(date(2018, 4, 1) + timedelta(n)).isoformat() for n in range(6)]


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory, days: list[str]) -> Files:
    """Six days of 40 transactions and their labels, and profiles of half the customers."""
    folder = tmp_path_factory.mktemp("lake [1]")
    paths: dict[str, dict[str, Path]] = {"validated_transactions": {}, "labelled_transactions": {}}
    for number, day in enumerate(days):
        rng = np.random.default_rng(number)
        midnight = datetime.combine(date.fromisoformat(day), time())
        transactions = pl.DataFrame(
            {
                "TRANSACTION_ID": np.arange(40) + 100 * number,
                "TX_DATETIME": [midnight + timedelta(minutes=n) for n in range(40)],
                "CUSTOMER_ID": rng.integers(0, 60, 40),
                "TERMINAL_ID": rng.integers(0, 5, 40),
                "TX_AMOUNT": np.round(rng.uniform(0, 200, 40), 2),
            }
        )
        labels = {
            "REPORTED_AT": pl.col("TX_DATETIME") + timedelta(hours=1),
            "IS_FRAUD": pl.col("TX_AMOUNT") > 150,
        }
        for table, frame in (
            ("validated_transactions", transactions),
            ("labelled_transactions", transactions.with_columns(**labels)),
        ):
            paths[table][day] = folder / f"{table}-{day}"
            frame.write_parquet(paths[table][day])
    profiles = pl.DataFrame({"CUSTOMER_ID": range(30), "MEAN_AMOUNT": [3.0 * n for n in range(30)]})
    others = ("X", "Y", "STD_AMOUNT", "MEAN_TX_PER_DAY")
    profiles.with_columns(pl.lit(1.0).alias(name) for name in others).write_parquet(folder / "profiles")
    return {**paths, "validated_customers": {"": folder / "profiles"}}


@pytest.fixture(scope="session")
def run(project: Project) -> Run:
    def call(names: Sequence[str], inputs: Files, days: Sequence[str]) -> MartRun:
        return run_marts(project.folder, project.target, names, inputs, days)

    return call
