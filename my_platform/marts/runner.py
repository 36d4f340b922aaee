"""Marts of given days from given files, by one call of dbt in a private DuckDB database.

A value cannot depend on what else is computed in the same call: every file is read with its own types, dbt
can open no file but those it was given, DuckDB has one thread, and the rows come back in the order of all
their columns.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import duckdb
import polars as pl

from my_platform.incremental.checks import CheckResult
from my_platform.incremental.memory import SETTING, Memory, in_words, resident_bytes, table_bytes
from my_platform.incremental.parts import Parts, write_part
from my_platform.marts.errors import FailedTest, MartError, MartRefused, MartTestFailed
from my_platform.marts.inputs import Inputs, lay_out
from my_platform.marts.manifest import DAY_COLUMN, Mart, MartRead, MartTest, load_marts
from my_platform.marts.parquet_views import checked_day, identifier, select_nothing
from my_platform.marts.prepare import DATABASE, PARSED, call_dbt, copy_project, ensure_manifest

# Errors of DuckDB that may pass when tried again, as it names them.
_PASSING = ("IO Error", "Out of Memory Error", "Interrupt Error", "HTTP Error", "Fatal Error")
# What dbt takes by itself, as it was measured, and less than which DuckDB cannot work with.
DBT_BYTES = 300_000_000
_LEAST_DUCKDB_BYTES = 100_000_000
_COUNTED_SHARE = 0.75
# A mart that is read back is in memory as DuckDB's, as polars' and by days.
_READ_BACK = 3.0
_MOST_ROWS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class TestResult:
    """How a dbt test of a mart ended.

    Attributes:
        rows: failing rows; none unless the status is another than ``pass``.
        days: failing rows by day; a test that does not return ``partition_day`` has all on every day.
    """

    __test__ = False

    test: MartTest
    status: Literal["pass", "warn", "fail"]
    rows: int
    days: Mapping[str, int]


@dataclass(frozen=True)
class MartRun:
    """What a call of dbt made.

    Attributes:
        tables: mart → day → rows, with ``partition_day`` among the columns; a day without rows is an empty
            table with the same columns. Where a mart does not fit into memory its days are in parts.
        tests: mart → results of its tests, over all days of the run.
    """

    tables: Mapping[str, Mapping[str, pl.DataFrame | Parts]]
    tests: Mapping[str, Sequence[TestResult]]


def run_marts(
    project_dir: Path,
    target_dir: Path,
    names: Sequence[str],
    inputs: Inputs,
    days: Sequence[str],
    vars: Mapping[str, Any] | None = None,
    *,
    loaded: Sequence[Mart] = (),
    memory: Memory | None = None,
    folder: Path | None = None,
) -> MartRun:
    """Compute and test marts for some days.

    Args:
        project_dir: the dbt project. dbt works on a copy of it, so that edits during a run do not matter.
        target_dir: as for ``ensure_manifest``.
        names: the marts.
        inputs: table that a mart reads → day (or ``""`` for a table without days) → local Parquet file. A
            day that is left out has no rows. A mart that another one reads is an input as well, unless it
            is computed in the same run.
        days: the partitions to compute.
        vars: values that replace those of ``dbt_project.yml``.
        loaded: the marts as the caller knows them; where given, their code must be what is run.
        memory: what DuckDB and dbt may take beside what this process has; what does not fit is spilled.
        folder: for tables that do not fit into memory, where there is a limit; they lie there afterwards.

    Raises:
        MartTestFailed: a test of error severity found rows; no table is given out.
        MartRefused: DuckDB rejected a mart's SQL.
        MartError: the project, the names or the inputs do not fit one another, or a file cannot be read.
    """
    days = sorted({checked_day(day) for day in days})
    if not days or not names:
        return MartRun({name: {} for name in names}, dict.fromkeys(names, ()))
    memory = memory or Memory()
    with _work_folder(memory) as work:
        copy_project(project_dir, work / "project")
        manifest = ensure_manifest(work / "project", target_dir)
        marts = _chosen(load_marts(manifest, vars), names, loaded)
        database = work / "project" / DATABASE
        limits = duckdb_limits(memory, work / "spill", beside_bytes=DBT_BYTES)
        lay_out(database, work / "inputs", _reads(marts), inputs, days, limits)
        results = _build(marts, work, manifest, vars or {})
        with duckdb.connect(str(database), read_only=True, config={"threads": 1, **limits}) as connection:
            tests = {mart.name: _judged(mart, results, connection, days) for mart in marts}
            failures = [
                FailedTest(name, result.test.name, result.rows, tuple(result.days))
                for name, each in tests.items()
                for result in each
                if result.status == "fail"
            ]
            if failures:
                alone = len(marts) == len(days) == 1
                raise MartTestFailed(failures, check_results(tests[marts[0].name], days[0]) if alone else ())
            return MartRun(
                tables={mart.name: _read_back(connection, mart, days, memory, folder) for mart in marts},
                tests=tests,
            )


def check_results(tests: Sequence[TestResult], day: str) -> tuple[CheckResult, ...]:
    """How one day of a mart answered its tests."""
    return tuple(
        CheckResult(
            result.test.name,
            passed=day not in result.days,
            metadata={"failing_rows": result.days[day]} if day in result.days else {},
            severity="warn" if result.status == "warn" else None,
        )
        for result in tests
    )


def _chosen(every: Sequence[Mart], names: Sequence[str], loaded: Sequence[Mart]) -> list[Mart]:
    by_name = {mart.name: mart for mart in every}
    missing = [name for name in names if name not in by_name]
    if missing:
        raise MartError(f"no marts named {', '.join(missing)}; the project has {', '.join(by_name)}")
    for mart in loaded:
        if mart.name in names and mart.code != by_name[mart.name].code:
            raise MartError(
                f"mart {mart.name} was edited after this process had loaded it; reload the code location"
            )
    return [by_name[name] for name in dict.fromkeys(names)]


def _reads(marts: Sequence[Mart]) -> dict[str, MartRead]:
    """The inputs that have to be laid out: all but the marts that this run makes itself."""
    made = {mart.name for mart in marts}
    wanted: dict[str, MartRead] = {}
    for mart in marts:
        for name, read in mart.reads.items():
            if name not in made:
                wanted.setdefault(name, read)
            elif (read.first, read.last) != (0, 0):
                raise MartError(
                    f"mart {mart.name} reads days {read.first} to {read.last} of mart {name}, of which this "
                    f"run makes only its own; compute {name} first, then {mart.name} with {name} as an input"
                )
    return wanted


def _build(
    marts: Sequence[Mart], work: Path, manifest: Path, vars: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Call dbt and give what it says of each node; raise where a model did not end well."""
    selected = sorted({name for mart in marts for name in (mart.name, *mart.steps)})
    target = work / "target"
    call = call_dbt(
        [
            *("build", "--select", *selected, "--indirect-selection", "buildable"),
            *("--exclude-resource-type", "unit_test"),
            *("--partial-parse-file-path", str(manifest.with_name(PARSED))),
            *("--no-populate-cache", "--log-level-file", "none"),
            *(("--vars", json.dumps(dict(vars))) if vars else ()),
        ],
        project=work / "project",
        target=target,
        logs=work / "logs",
    )
    try:
        report = json.loads((target / "run_results.json").read_bytes())["results"]
    except FileNotFoundError:
        raise MartError(f"dbt build of {', '.join(selected)} did not run:\n{call.stdout.strip()}") from None
    results: dict[str, dict[str, Any]] = {result["unique_id"]: result for result in report}
    for key, result in results.items():
        if result["status"] in ("error", "runtime error"):
            message = " ".join(str(result["message"]).split())
            if any(name in message for name in _PASSING) or not key.startswith(("model.", "test.")):
                raise MartError(f"dbt build, {key}: {message}")
            raise MartRefused(_mart_of(key, marts), message)
    return results


def _mart_of(key: str, marts: Sequence[Mart]) -> str:
    """The mart whose model, step or test a node of dbt is."""
    name = key.split(".")[2]
    for mart in marts:
        if name in (mart.name, *mart.steps) or key in {test.id for test in mart.tests}:
            return mart.name
    return name


def _judged(
    mart: Mart,
    results: Mapping[str, Mapping[str, Any]],
    connection: duckdb.DuckDBPyConnection,
    days: Sequence[str],
) -> list[TestResult]:
    judged: list[TestResult] = []
    for test in mart.tests:
        result = results.get(test.id, {"status": "not run"})
        if result["status"] in ("fail", "warn"):
            found = _failing_days(connection, result["compiled_code"], result["failures"], days)
            judged.append(TestResult(test, result["status"], result["failures"], found))
        elif result["status"] == "pass":
            judged.append(TestResult(test, "pass", result["failures"], {}))
        elif result["status"] != "skipped":
            raise MartError(f"mart {mart.name}: test {test.name} was {result['status']}, not run by dbt")
    return judged


def _failing_days(
    connection: duckdb.DuckDBPyConnection, query: str, rows: int, days: Sequence[str]
) -> dict[str, int]:
    try:
        found = connection.execute(
            f"SELECT CAST({DAY_COLUMN} AS VARCHAR), count(*) FROM ({query}) GROUP BY 1 ORDER BY 1"
        ).fetchall()
    except duckdb.BinderException:
        return dict.fromkeys(days, rows)
    return {day: number for day, number in found if day in days} or dict.fromkeys(days, rows)


def duckdb_limits(memory: Memory, spill: Path, *, beside_bytes: int = 0) -> dict[str, str]:
    """DuckDB's settings within a memory limit, beside what this process has now; none without a limit.

    Args:
        spill: the folder for what does not fit.
        beside_bytes: what others take meanwhile.

    Raises:
        MartError: nothing is left for it.
    """
    if memory.limit_bytes is None:
        return {}
    left = memory.limit_bytes - resident_bytes() - beside_bytes
    if left < _LEAST_DUCKDB_BYTES:
        least = memory.limit_bytes - left + _LEAST_DUCKDB_BYTES
        raise MartError(
            f"a limit of {in_words(memory.limit_bytes)} leaves DuckDB too little beside the processes; set "
            f"{SETTING} to {in_words(least, up=True)} or more"
        )
    # Beside what it counts, DuckDB takes some for what it does not.
    return {"memory_limit": f"{int(left * _COUNTED_SHARE) // 1_000_000}MB", "temp_directory": str(spill)}


def _work_folder(memory: Memory) -> AbstractContextManager[Path]:
    """A folder for one call: on the disk of the home where there is a limit, as tables may be larger than memory."""
    if memory.limit_bytes is not None:
        return memory.folder()
    return _temporary()


@contextmanager
def _temporary() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="my_platform_marts_") as folder:
        yield Path(folder)


def _read_back(
    connection: duckdb.DuckDBPyConnection,
    mart: Mart,
    days: Sequence[str],
    memory: Memory,
    folder: Path | None,
) -> Mapping[str, pl.DataFrame | Parts]:
    table = ".".join(map(identifier, mart.relation))
    _check_types(connection, mart, table)
    undated = connection.execute(f"SELECT count(*) FROM {table} WHERE {DAY_COLUMN} IS NULL").fetchall()[0][0]
    if undated:
        raise MartRefused(mart.name, f"{undated} rows have no {DAY_COLUMN}")
    count = connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0]
    empty = connection.execute(f"SELECT * FROM {table} WHERE false").pl()
    if folder is not None and not memory.fits(table_bytes(count, empty.schema) * _READ_BACK):
        return {day: _parts_of(connection, table, day, empty, memory, folder / mart.name) for day in days}
    rows = connection.execute(f"SELECT * FROM {table} ORDER BY ALL").pl()
    by_day = {str(day): part for (day,), part in rows.partition_by(DAY_COLUMN, as_dict=True).items()}
    return {day: by_day.get(day, rows.clear()).rechunk() for day in days}


def _parts_of(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    day: str,
    empty: pl.DataFrame,
    memory: Memory,
    folder: Path,
) -> Parts:
    """The rows of a day in files, sorted by DuckDB within its limit."""
    folder.mkdir(exist_ok=True)
    assert memory.room_bytes is not None
    at_once = max(1, min(memory.room_bytes // 16 // max(table_bytes(1, empty.schema), 1), _MOST_ROWS_AT_ONCE))
    reader = connection.execute(
        f"SELECT * FROM {table} WHERE {DAY_COLUMN} = CAST(? AS DATE) ORDER BY ALL", [day]
    ).to_arrow_reader(at_once)
    files: list[Path] = []
    rows = 0
    for batch in reader:
        frame = pl.DataFrame(batch)
        files.append(write_part(frame, folder / f"{day}-{len(files)}.arrow"))
        rows += frame.height
    return Parts(tuple(files or [write_part(empty, folder / f"{day}.arrow")]), rows, empty.schema)


def _check_types(connection: duckdb.DuckDBPyConnection, mart: Mart, table: str) -> None:
    """A mart has the columns that it declares, in their order and with their types."""
    declared = select_nothing({name: column.type for name, column in mart.columns.items()})
    expected = [row[:2] for row in connection.execute(f"DESCRIBE {declared}").fetchall()]
    found = [row[:2] for row in connection.execute(f"DESCRIBE {table}").fetchall()]
    if found != expected:
        raise MartRefused(
            mart.name,
            f"its columns are {_listed(found)}, but it declares {_listed(expected)}",
        )


def _listed(columns: Sequence[Sequence[str]]) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in columns)
