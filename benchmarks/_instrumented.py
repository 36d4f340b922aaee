"""The ``my-platform`` command with a stopwatch around what the platform adds to the work itself.

`python -m benchmarks._instrumented FILE refresh …` runs the command and writes to FILE the seconds that were
spent in each part, without those of the parts within it. A few ten thousand calls are timed, which costs
some hundredths of a second.
"""

import atexit
import functools
import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Module, function or class and method, and what it counts as.
PARTS = (
    ("my_platform.operations.heads", "DagsterHeads.emit", "event log, written"),
    ("my_platform.operations.heads", "DagsterHeads.read", "event log, read"),
    ("my_platform.storage.lake", "data_version", "hashing"),
    ("my_platform.storage.landing", "content_digest", "hashing"),
    ("my_platform.storage.lake", "seal", "Parquet and seal, written"),
    ("my_platform.storage.lake", "unseal", "Parquet and seal, read"),
    ("my_platform.storage.lake", "record_of", "records, read"),
    ("my_platform.storage.objects", "FolderStore.create", "files"),
    ("my_platform.storage.objects", "FolderStore.read", "files"),
    ("my_platform.storage.objects", "FolderStore.exists", "files"),
    ("my_platform.storage.landing", "Landing.scan", "landing"),
    ("my_platform.storage.landing", "Landing.still", "landing"),
    *(
        ("my_platform.storage.trace_index", f"TraceIndex.{name}", "trace index")
        for name in ("add", "find", "landed", "refusals", "forget", "replace_landed", "is_empty")
    ),
    ("my_platform.operations.execution", "plan_asset", "planning"),
    ("my_platform.operations.refresh", "plan_asset", "planning"),
    ("my_platform.marts.runner", "call_dbt", "dbt process"),
    ("my_platform.marts.assets", "run_marts", "marts around dbt"),
    ("my_platform.learning.tracking", "Tracker.log_model", "MLflow"),
    ("my_platform.learning.tracking", "Tracker.log_metrics", "MLflow"),
    ("my_platform.operations.home", "load_project", "code versions"),
    ("dagster", "DagsterInstance.get", "opening the instance"),
)


class Stopwatch:
    """Seconds by part; a part that is called within another one is taken out of it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, int] = {}
        self._inner = [0.0]

    def around(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*arguments: Any, **named: Any) -> Any:
            self._inner.append(0.0)
            started = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                taken = time.perf_counter() - started
                own = taken - self._inner.pop()
                self._inner[-1] += taken
                self.seconds[part] = self.seconds.get(part, 0.0) + own
                self.calls[part] = self.calls.get(part, 0) + 1

        return timed


def main() -> None:
    began = time.perf_counter()
    report, *arguments = sys.argv[1:]
    watch = Stopwatch()
    import dagster as dg
    import polars as pl

    watch.seconds["importing Dagster and polars"] = time.perf_counter() - began
    started = time.perf_counter()
    import my_platform.cli
    import my_platform.domains.fraud
    import my_platform.operations.session

    watch.seconds["importing the platform"] = time.perf_counter() - started
    for module, name, part in PARTS:
        owner: Any = importlib.import_module(module)
        *path, attribute = name.split(".")
        for step in path:
            owner = getattr(owner, step)
        function = getattr(owner, attribute)
        setattr(owner, attribute, watch.around(function, part))
    del dg, pl

    def save() -> None:
        total = time.perf_counter() - began
        Path(report).write_text(json.dumps({"total": total, "seconds": watch.seconds, "calls": watch.calls}))

    atexit.register(save)
    sys.argv = ["my-platform", *arguments]
    my_platform.cli.main()


if __name__ == "__main__":
    main()
