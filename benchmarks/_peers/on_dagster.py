"""Plain Dagster on the small domain: driven by its automation conditions, or by the stale status that it shows."""

import importlib.util
import os
import shutil
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import dagster as dg
import polars as pl

from benchmarks._peers.shop import COLUMNS, Contents
from benchmarks._peers.system import Answer, Code, Edit, Way
from benchmarks._stale_status import OWED, as_shown

HERE = Path(__file__).parent
# A tick asks for what depends on what the tick before it asked for; more than these were never needed.
MOST_TICKS = 10
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class Dagster:
    name = "Dagster"
    ways = (
        Way("`eager()`", "eager", "eager"),
        Way("`eager()` for any day and code version", "eager for all", "eager for all"),
        Way("what it shows as stale is materialized", "none", "none"),
    )
    code = Code(
        "shop_project.py",
        cosmetic=(
            (
                '    table = (\n        read("transactions"',
                '    # By customer.\n    table = (\n        read("transactions"',
            ),
            ('"cents_30d"), pl.len()', '"cents_30d"),\n            pl.len()'),
        ),
        real=(
            ('pl.col("amount_cents").sum()', '(pl.col("amount_cents") + 25).sum()'),
            ('SPENDING_CODE = "1"', 'SPENDING_CODE = "2"'),
        ),
    )

    def versions(self) -> str:
        return f"dagster {version('dagster')}"

    def build(self, folder: Path) -> None:
        shutil.copy(HERE / "dagster_project.py", folder / self.code.file)
        defs = self._load(folder, "none")
        with _instance(folder) as instance:
            _observe(defs, instance)
            job = defs.resolve_implicit_global_asset_job_def()
            for path in sorted((folder / "landing" / "transactions").iterdir()):
                job.execute_in_process(
                    instance=instance,
                    partition_key=path.stem,
                    run_config=QUIET,
                    asset_selection=[dg.AssetKey(name) for name in COLUMNS],
                )

    def contents(self, folder: Path) -> Contents:
        return {
            (name, path.stem): sorted(pl.read_parquet(path).select(columns).iter_rows())
            for name, columns in COLUMNS.items()
            for path in (folder / "tables" / name).iterdir()
        }

    def answer(self, folder: Path, way: Way, edit: Edit) -> Answer:
        condition = way.on(edit)
        before = self._load(folder, condition)
        with _instance(folder) as instance:
            if condition == "none":
                edit.apply(folder)
                computed = list(_materialize_stale(self._load(folder, condition), instance))
            else:
                cursor = dg.evaluate_automation_conditions(before, instance).cursor
                edit.apply(folder)
                computed = list(_follow_conditions(self._load(folder, condition), instance, cursor))
        return Answer(computed, self.contents(folder))

    def _load(self, folder: Path, condition: str) -> dg.Definitions:
        warnings.filterwarnings("ignore", category=dg.BetaWarning)
        os.environ["PEERS_HOME"] = str(folder)
        os.environ["PEERS_CONDITION"] = condition
        os.environ["PEERS_FIRST_DAY"] = min(
            path.stem for path in (folder / "landing" / "transactions").iterdir()
        )
        spec = importlib.util.spec_from_file_location("shop_project", folder / self.code.file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found = module.defs
        assert isinstance(found, dg.Definitions)
        return found


@contextmanager
def _instance(folder: Path) -> Iterator[dg.DagsterInstance]:
    home = folder / "dagster"
    home.mkdir(exist_ok=True)
    with dg.DagsterInstance.local_temp(str(home), overrides={"telemetry": {"enabled": False}}) as instance:
        yield instance


def _observe(defs: dg.Definitions, instance: dg.DagsterInstance) -> None:
    defs.resolve_job_def("observe").execute_in_process(instance=instance, run_config=QUIET)


def _materialize(
    defs: dg.Definitions, instance: dg.DagsterInstance, name: str, keys: Collection[str]
) -> Iterator[tuple[str, str]]:
    job = defs.resolve_implicit_global_asset_job_def()
    for key in sorted(keys):
        job.execute_in_process(
            instance=instance, partition_key=key, asset_selection=[dg.AssetKey(name)], run_config=QUIET
        )
        yield name, key


def _follow_conditions(
    defs: dg.Definitions, instance: dg.DagsterInstance, cursor: object
) -> Iterator[tuple[str, str]]:
    """Observe what landed, and tick until nothing is asked for."""
    _observe(defs, instance)
    for _ in range(MOST_TICKS):
        result = dg.evaluate_automation_conditions(defs, instance, cursor=cursor)  # type: ignore[arg-type]
        if result.total_requested == 0:
            return
        cursor = result.cursor
        for name in COLUMNS:
            yield from _materialize(defs, instance, name, result.get_requested_partitions(dg.AssetKey(name)))
    raise AssertionError(f"the conditions still ask for partitions after {MOST_TICKS} ticks")


def _materialize_stale(defs: dg.Definitions, instance: dg.DagsterInstance) -> Iterator[tuple[str, str]]:
    """Observe what landed, and materialize from the top to the bottom all that is shown as stale or missing."""
    _observe(defs, instance)
    graph = defs.resolve_asset_graph()
    for name in COLUMNS:
        key = dg.AssetKey(name)
        partitions = graph.get(key).partitions_def
        assert partitions is not None
        resolver = as_shown(defs, instance)
        stale = [day for day in partitions.get_partition_keys() if resolver.get_status(key, day) in OWED]
        yield from _materialize(defs, instance, name, stale)
