"""The scoring service on one core with wrk on the other: full requests, with reasons, durable, in Redis, and a peer.

`make serve-bench` prints one line of figures and fails where one falls short; `make bench BENCHMARKS=serving
ARGS=--write` writes the table, with `mlflow models serve` on the same trees beside it. Needs wrk (Debian package wrk)
and two cores, and for the row about Redis its server.
"""

import argparse
import contextlib
import os
import shutil
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from assets_tests import homes
from assets_tests.serving import service_home
from assets_tests.serving.redis_servers import REDIS, RedisServer
from benchmarks._mlflow_server import by_mlflow
from benchmarks._report import machine, publish, table, temporary_folder
from benchmarks._wrk import CONNECTIONS, WARM_S, Figures, by_wrk, on_core
from my_platform.learning.bundle import Bundle, read_bundle
from my_platform.learning.export.scoring import load_onnx
from my_platform.learning.ledger import PromotionLedger

COMMAND = "make bench BENCHMARKS=serving ARGS=--write"
CUSTOMERS, TERMINALS, ROUNDS = 300, 600, 150
MOST_P99_MS, LEAST_PER_S, MOST_MODEL_MS = 5.0, 2_000.0, 0.1
_MODEL_CALLS = 20_000
# Longer than what is sent first lasts by the transactions' own times.
_WARM_SPAN_S = 3_600
# More requests than one measurement sends.
MOST_SENT = 10_000_000
# Each connection's requests are new transactions of known cards and terminals, in time.
_LUA = """
local number = 0
function request()
  number = number + 1
  local second = FIRST + math.floor(number / 50)
  local body = string.format(
    '{"row":{"TRANSACTION_ID":%d,"TX_DATETIME":"%s","CUSTOMER_ID":%d,"TERMINAL_ID":%d,"TX_AMOUNT":%.2f},"reasons":REASONS}',
    BASE + number, os.date("!%Y-%m-%dT%H:%M:%S", second), number * 7919 % CUSTOMERS, number * 104729 % TERMINALS,
    1 + number * 31 % 20000 / 100)
  return wrk.format("POST", "/v1/score", {["Content-Type"]="application/json", ["Authorization"]="Bearer TOKEN"}, body)
end
"""

# Requests leave at so many a second, each when it is due, as clients of their own would send them: without this wrk sends
# the next as soon as an answer is there, and measures the queue in front of a core that is never idle.
_PACED = """
local ffi = require("ffi")
ffi.cdef("typedef struct { long s; long ns; } instant; int clock_gettime(int id, instant *at);")
local at, due = ffi.new("instant[1]"), nil
function delay()
  ffi.C.clock_gettime(1, at)
  local now = tonumber(at[0].s) * 1000 + tonumber(at[0].ns) / 1e6
  due = math.max((due or now) + 1000 / OFFERED, now - 100)
  return math.max(0, math.floor(due - now + 0.5))
end
"""
OFFERED_PER_S = 2_200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=10, help="of each measurement")
    parser.add_argument(
        "--check", action="store_true", help="one line, and exit code 1 where a figure falls short"
    )
    parser.add_argument("--write", action="store_true", help="replace the section in docs/benchmarks.md")
    options = parser.parse_args()
    if shutil.which("wrk") is None or len(os.sched_getaffinity(0)) < 2:
        sys.exit("serving: wrk (Debian package wrk) and two cores are needed, so nothing was measured")
    load = os.getloadavg()
    with temporary_folder() as folder:
        home = folder / "home"
        with contextlib.redirect_stdout(sys.stderr):
            service_home.make(home, CUSTOMERS, TERMINALS, boosting_rounds=ROUNDS)
        model_p99_ms, model_per_s = model_alone(home)
        full = measured(home, folder, options.seconds)
        paced = measured(home, folder, options.seconds, offered_per_s=OFFERED_PER_S)
        if options.check:
            check(full, paced, model_p99_ms)
            return
        # Beside it in time too, as other work on the machine comes and goes.
        peer = by_mlflow(champion_bundle(home), folder, options.seconds)
        rows = [
            ["a row a request, as many as are answered", *_told(full)],
            [f"the same, {OFFERED_PER_S:,} a second offered", *_told(paced)],
            ["the same with reasons", *_told(measured(home, folder, options.seconds, reasons=True))],
            [
                "the same as the first, durable against a loss of power",
                *_told(measured(home, folder, options.seconds, serve_durability="power")),
            ],
            ["the same as the first, its state in Redis", *_told(in_redis(home, folder, options.seconds))],
            ["`GET /healthz`, HTTP and nothing else", *_told(http_alone(home, folder, options.seconds))],
        ]
    publish(
        "serving",
        "Scoring service",
        COMMAND,
        [
            f"One worker on one core, wrk with {CONNECTIONS} connections on the other; every request is a new transaction "
            f"that is checked, has its features looked up and its model asked, and is logged before the reply. "
            f"{CUSTOMERS} cards, {TERMINALS} terminals, {ROUNDS} trees, {options.seconds} s each:",
            "",
            *table(
                ["", "a second", "p50, ms", "p99, ms", "failed"],
                [
                    *rows,
                    [
                        "the model alone, in the process",
                        f"{model_per_s:,.0f}",
                        "",
                        f"{model_p99_ms:.3f}",
                        "0",
                    ],
                    ["`mlflow models serve`, given the features", *_told(peer)],
                ],
            ),
            "",
            f"`mlflow models serve` has the same trees, one worker on the same core and the same {CONNECTIONS} connections; "
            f"a request is one row of ready features, so that it looks nothing up and logs nothing. The service answers "
            f"**{full.per_s / peer.per_s:.1f} ×** as many requests.",
            "",
            "State in Redis: on the same machine with `appendfsync everysec`, not bound to a core.",
            "",
            machine(load),
        ],
        write=options.write,
    )


def measured(
    home: Path,
    folder: Path,
    seconds: int,
    *,
    reasons: bool = False,
    offered_per_s: int | None = None,
    **settings: object,
) -> Figures:
    """wrk's figures of a service that is started for it; of so many requests a second, or of all that it answers."""
    # What another one logged is not taken in.
    shutil.rmtree(home / "serving", ignore_errors=True)
    values = {
        "FIRST": str(_first_second()),
        "BASE": str(time.time_ns() // 1000),
        "CUSTOMERS": str(CUSTOMERS),
        "TERMINALS": str(TERMINALS),
        "TOKEN": service_home.ALL_TOKEN,
        "REASONS": str(reasons).lower(),
    }
    text = _LUA
    if offered_per_s is not None:
        text += _PACED.replace("OFFERED", str(offered_per_s))
    for name, value in values.items():
        text = text.replace(name, value)
    # The first seconds read cards and terminals into memory; the transactions that are measured are later ones.
    later = text.replace(values["BASE"], str(time.time_ns() // 1000 + MOST_SENT)).replace(
        values["FIRST"], str(_first_second() + _WARM_SPAN_S)
    )
    return asked(home, folder, [(text, WARM_S), (later, seconds)], **settings)


def http_alone(home: Path, folder: Path, seconds: int) -> Figures:
    """What this machine gives for a request that is only answered: no other one can be faster."""
    text = 'function request() return wrk.format("GET", "/healthz") end'
    return asked(home, folder, [(text, WARM_S), (text, seconds)])


def asked(home: Path, folder: Path, scripts: Sequence[tuple[str, int]], **settings: object) -> Figures:
    """wrk's figures of the last of several scripts, each for its seconds, at a service that is started for them."""
    script = folder / "requests.lua"
    given = {"boosting_rounds": ROUNDS, "serve_rate": 1_000_000, **settings}
    with service_home.serving(home, before=on_core(0), **given) as running:
        for text, seconds in scripts:
            script.write_text(text)
            found = by_wrk(running.url, script, seconds)
    return found


def in_redis(home: Path, folder: Path, seconds: int) -> Figures | None:
    """The same with the state in a Redis of its own; None where there is no server."""
    if REDIS is None:
        return None
    data = folder / "redis"
    data.mkdir()
    server = RedisServer(data, appendfsync="everysec")
    server.start()
    try:
        return measured(home, folder, seconds, serve_redis_url=server.url)
    finally:
        server.kill()


def model_alone(home: Path) -> tuple[float, float]:
    """Milliseconds within which 99 of 100 rows are scored by ONNX Runtime alone, and rows a second."""
    bundle = champion_bundle(home)
    model = load_onnx(bundle.files["model.onnx"], bundle.about["features"])
    rows = np.random.default_rng(1).uniform(0, 100, (_MODEL_CALLS, len(model.features)))
    times = []
    for number in range(_MODEL_CALLS):
        started = time.perf_counter()
        model.rows(rows[number : number + 1])
        times.append(time.perf_counter() - started)
    return float(np.quantile(times, 0.99)) * 1e3, _MODEL_CALLS / sum(times)


def champion_bundle(home: Path) -> Bundle:
    """What serves in a home."""
    champion = PromotionLedger(home / "registry" / "promotions.jsonl").standing("fraud").champion
    assert champion is not None
    return read_bundle(home / "registry" / "bundles", champion.bundle)


def check(full: Figures, paced: Figures, model_p99_ms: float) -> None:
    """Print the line of figures; exit code 1 where one falls short."""
    short = [
        said
        for said, kept in (
            (f"{full.per_s:,.0f} requests/s of {LEAST_PER_S:,.0f}", full.per_s >= LEAST_PER_S),
            (f"{paced.per_s:,.0f} paced requests/s of {LEAST_PER_S:,.0f}", paced.per_s >= LEAST_PER_S),
            (f"p99 {paced.p99_ms:.2f} ms of {MOST_P99_MS:g}", paced.p99_ms <= MOST_P99_MS),
            (f"model alone p99 {model_p99_ms:.3f} ms of {MOST_MODEL_MS:g}", model_p99_ms <= MOST_MODEL_MS),
            (f"{full.failed + paced.failed} requests failed", full.failed + paced.failed == 0),
        )
        if not kept
    ]
    print(
        f"serve-bench: {CONNECTIONS} connections, at {paced.per_s:,.0f} requests/s p50 {paced.p50_ms:.2f} ms and p99 "
        f"{paced.p99_ms:.2f} ms; at the most, {full.per_s:,.0f}/s, p50 {full.p50_ms:.2f} ms and p99 {full.p99_ms:.2f} ms; "
        f"{full.failed + paced.failed} failed; model alone p99 {model_p99_ms:.3f} ms"
        + (f"; short: {', '.join(short)}" if short else "; all kept")
    )
    if short:
        sys.exit(1)


def _first_second() -> int:
    after = datetime.combine(homes.FIRST, datetime.min.time(), UTC) + timedelta(days=service_home.DAYS)
    return int(after.timestamp())


def _told(found: Figures | None) -> list[str]:
    if found is None:
        return ["not installed", "", "", ""]
    return [f"{found.per_s:,.0f}", f"{found.p50_ms:.2f}", f"{found.p99_ms:.2f}", str(found.failed)]


if __name__ == "__main__":
    main()
