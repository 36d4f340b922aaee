"""wrk with its figures, on the second of two cores."""

import os
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

CONNECTIONS = 8
WARM_S = 3
_UNITS_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


class Figures(NamedTuple):
    """What wrk measured."""

    per_s: float
    p50_ms: float
    p99_ms: float
    failed: int


def by_wrk(url: str, script: Path, seconds: int) -> Figures:
    """What wrk measures from the second core."""
    wrk = ["wrk", "-t1", f"-c{CONNECTIONS}", "--latency", "-s", str(script), url, f"-d{seconds}s"]
    return figures_of(subprocess.run([*on_core(1), *wrk], check=True, capture_output=True, text=True).stdout)


def figures_of(told: str) -> Figures:
    """The figures in what wrk printed; raises ValueError where they are not there."""
    per_s = re.search(r"Requests/sec:\s+([\d.]+)", told)
    times = {
        share: float(value) * _UNITS_MS[unit]
        for share, value, unit in re.findall(r"^\s+(50|99)%\s+([\d.]+)(us|ms|s)$", told, re.M)
    }
    if per_s is None or times.keys() != {"50", "99"}:
        raise ValueError(f"wrk told no figures: {told}")
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", told)
    return Figures(float(per_s[1]), times["50"], times["99"], int(failed[1]) if failed else 0)


def on_core(number: int) -> tuple[str, ...]:
    """The words that bind a command to one of this process' cores."""
    return ("taskset", "-c", str(sorted(os.sched_getaffinity(0))[number]))
