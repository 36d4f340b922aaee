"""A week replayed through the scoring service in time order, its labels fed back when they became known.

`make replay-check HANDBOOK=FOLDER` replays the Handbook's transactions of 2018-08-08 … 14 through `my-platform serve` on
a home in which nothing later than 2018-08-07 has landed. It prints one line of figures and fails where one falls
short: each online feature is the offline one bit for bit, each probability that of bulk scoring, and the week's figures
are those of the evaluation report.
"""

import argparse
import contextlib
import http.client
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from heapq import merge
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import polars as pl

from assets_tests.serving.service_home import ALL_TOKEN, TOKENS, serving
from benchmarks._replay_homes import EVALUATION, MODEL, ReplayHomes
from benchmarks._report import HANDBOOK, machine, platform_command, publish, run, table, temporary_folder
from my_platform.domains.fraud import handbook
from my_platform.domains.fraud.evaluation import scored_rows
from my_platform.domains.fraud.features import FEATURE_SETS, FEATURES, joined
from my_platform.domains.fraud.landing_files import reports_path, transactions_path
from my_platform.domains.fraud.parameters import BOOSTING_ROUNDS, CARDS_A_DAY, TRAINING_WINDOW_DAYS
from my_platform.domains.fraud.protocol import DELAY, test_days
from my_platform.domains.fraud.scored_requests import SKEW, TABLE
from my_platform.features import skew
from my_platform.learning.metrics import evaluate
from my_platform.operations.home import land_logs
from my_platform.operations.session import Session
from my_platform.serving.gate import FEEDBACK, SCORE
from my_platform.serving.log_landing import PREFIX
from my_platform.settings import Settings
from my_platform.storage.lake import json_in

COMMAND = "make replay-check HANDBOOK=FOLDER ARGS=--write"
WEEK = date(2018, 8, 8)
MOST_APART = 1e-6
KEY = "TRANSACTION_ID"

Event = tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class Replayed:
    """What was sent, how many labels were new, what the service refused, and how long it took."""

    rows: int
    labels: int
    new_labels: int
    refused: list[str]
    seconds: float


@dataclass(frozen=True)
class Compared:
    """A replayed week held against the offline side.

    Attributes:
        rows, not_served: transactions of the week that were compared, and that are not in the log.
        differing: (row, feature) pairs that are another value online, by feature, where there are any.
        degraded: rows that the service itself doubted; they are compared all the same.
        apart: the largest difference of a probability from bulk scoring.
        online, offline: the figures of the logged probabilities, and those of the evaluation report.
    """

    rows: int
    not_served: int
    differing: Mapping[str, int]
    degraded: int
    apart: float
    online: Mapping[str, float]
    offline: Mapping[str, float]

    @property
    def figures_apart(self) -> float:
        """The largest difference between two figures."""
        return max(abs(self.online[name] - figure) for name, figure in self.offline.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--handbook", type=Path, default=HANDBOOK, help="the Handbook's daily files, YYYY-MM-DD.parquet"
    )
    parser.add_argument("--write", action="store_true", help="replace the section in docs/benchmarks.md")
    options = parser.parse_args()
    if not options.handbook.is_dir():
        sys.exit(
            f"replay-check: {options.handbook} is no folder, so nothing was checked; give HANDBOOK=FOLDER"
        )
    load = os.getloadavg()
    given = {"training_window_days": TRAINING_WINDOW_DAYS, "boosting_rounds": BOOSTING_ROUNDS}
    with temporary_folder() as folder:
        homes = ReplayHomes(folder / "landing", folder, WEEK, given)
        with contextlib.redirect_stdout(sys.stderr):
            handbook.import_handbook(options.handbook, homes.whole, through=test_days(WEEK)[1] - timedelta(1))
            homes.build()
            replayed = replay(homes)
            compared = compare(homes)
    if options.write:
        lines = [*_lines(replayed, compared), "", machine(load)]
        publish("replay", "A week replayed through the service", COMMAND, lines, write=True)
    missed = short(replayed, compared)
    verdict = f"short: {', '.join(missed)}" if missed else "all kept"
    print(f"replay-check: {line(replayed, compared)}; {verdict}")
    sys.exit(1 if missed else 0)


def events(landing: Path, week: date) -> Iterator[Event]:
    """A week's transactions, and the labels that became known from its first day until all its own were.

    In the order of time: path and body of each request. A label of the same second comes before a transaction.
    """
    first, end = test_days(week)
    tables = (
        (FEEDBACK, reports_path, "REPORTED_AT", first, end + DELAY),
        (SCORE, transactions_path, "TX_DATETIME", first, end),
    )
    told = [_of_table(landing, *each) for each in tables]
    return ((path, body) for _, _, _, path, body in merge(*told, key=lambda event: event[:3]))


def replay(homes: ReplayHomes) -> Replayed:
    """Send a week's events to a service of the first home, one after the other."""
    rows = labels = new = 0
    refused: list[str] = []
    (homes.serving / "tokens.json").write_text(json.dumps(TOKENS))
    with serving(homes.serving, serve_rate=1_000_000, **homes.settings) as running:
        started = time.perf_counter()
        with contextlib.closing(
            http.client.HTTPConnection(urlsplit(running.url).netloc, timeout=60)
        ) as service:
            for path, body in events(homes.whole, homes.week):
                sent = json.dumps({"row": body} if path == SCORE else body)
                service.request(
                    "POST",
                    path,
                    sent,
                    {"content-type": "application/json", "authorization": f"Bearer {ALL_TOKEN}"},
                )
                reply = service.getresponse()
                answer = reply.read()
                if reply.status != 200:
                    refused.append(f"{path} {body[KEY]}: {reply.status} {answer[:300].decode()}")
                elif path == SCORE:
                    rows += 1
                else:
                    labels += 1
                    new += json.loads(answer)["new"]
        seconds = time.perf_counter() - started
        if running.end():
            refused.append("the service did not end in good order")
    return Replayed(rows, labels, new, refused, seconds)


def compare(homes: ReplayHomes) -> Compared:
    """Hold the log of the replayed week against the second home, and against bulk scoring."""
    served = _served(homes)
    with homes.opened(homes.later) as session:
        days = [str(homes.week + timedelta(days=number)) for number in range(7)]
        sets = [pl.concat([_stored(session, each.name, day) for day in days]).lazy() for each in FEATURE_SETS]
        offline = joined(*sets).sort("TX_DATETIME", KEY).collect()
        present = str(session.workspace.project.assets[SKEW].parameters["feature_code"])
        tested = _stored(session, "test_set", str(homes.week))
        report = json_in(_stored(session, EVALUATION, str(homes.week)), "metrics.json")
    # Also rows that the service doubted have to be right.
    sure = served.with_columns(DEGRADED=pl.lit(None, pl.String))
    found, counted = skew.compare(
        sure, offline, FEATURES, key=KEY, prefix=PREFIX, degraded="DEGRADED", code=("FEATURE_CODE", present)
    )
    by_feature = found.select("feature", pl.sum_horizontal("mismatches", "missing", "extra"))
    bulk = _bulk(homes, offline)
    both = served.select(KEY, online="PROBABILITY").join(bulk.select(KEY, "PROBABILITY"), on=KEY)
    figures = evaluate(
        scored_rows(tested.lazy(), served.lazy().rename({"PROBABILITY": "score"})).collect(), CARDS_A_DAY
    )
    return Compared(
        rows=min(counted.compared, both.height),
        not_served=counted.not_served,
        differing={name: number for name, number in by_feature.iter_rows() if number},
        degraded=served["DEGRADED"].count(),
        apart=float((both["online"] - both["PROBABILITY"]).abs().max()),
        online={
            "auc_roc": figures.auc_roc,
            "average_precision": figures.average_precision,
            f"precision_at_{CARDS_A_DAY}": figures.precision_at_k.mean,
        },
        offline=report["models"][MODEL],
    )


def short(replayed: Replayed, compared: Compared) -> list[str]:
    """In words, what does not hold."""
    differing = [f"{name} in {number:,} rows" for name, number in compared.differing.items()]
    return [
        said
        for said, wrong in (
            (f"{len(replayed.refused):,} requests refused, such as {replayed.refused[:1]}", replayed.refused),
            (
                f"{replayed.labels - replayed.new_labels:,} labels were not new",
                replayed.labels > replayed.new_labels,
            ),
            (
                f"{compared.rows:,} of {replayed.rows:,} rows compared",
                compared.rows != replayed.rows or not replayed.rows,
            ),
            (f"{compared.not_served:,} rows not served", compared.not_served),
            (f"{compared.degraded:,} rows called degraded", compared.degraded),
            (f"other features than offline: {', '.join(differing)}", differing),
            (f"a probability {compared.apart:.1e} from bulk scoring", not compared.apart <= MOST_APART),
            (
                f"figures {compared.figures_apart:.1e} from the report's",
                not compared.figures_apart <= MOST_APART,
            ),
        )
        if wrong
    ]


def line(replayed: Replayed, compared: Compared) -> str:
    """The figures in one line."""
    figures = ", ".join(f"{name} {compared.online[name]:.4f}" for name in sorted(compared.offline))
    return (
        f"{replayed.rows:,} transactions and {replayed.labels:,} labels in {replayed.seconds:.0f} s, "
        f"{sum(compared.differing.values()):,} of {compared.rows * len(FEATURES):,} features differ, probabilities at most "
        f"{compared.apart:.1e} from bulk scoring, {figures}, at most {compared.figures_apart:.1e} from the report's"
    )


def _lines(replayed: Replayed, compared: Compared) -> list[str]:
    rows = [
        [name, f"{compared.online[name]:.6f}", f"{figure:.6f}"] for name, figure in compared.offline.items()
    ]
    return [
        f"The Handbook's {replayed.rows:,} transactions of the week from {WEEK} on, sent one after the other to "
        f"`my-platform serve` on a home in which nothing later had landed, with {replayed.labels:,} labels fed back when "
        f"they became known ({replayed.seconds:.0f} s in all, {len(replayed.refused)} refused). Held against a home that "
        f"has the week: {sum(compared.differing.values()):,} of {compared.rows * len(FEATURES):,} features differ in any "
        f"bit, {compared.degraded:,} rows were degraded, and the largest difference of a probability from bulk scoring is "
        f"{compared.apart:.1e}.",
        "",
        *table(["", "as logged by the service", "evaluation report"], rows),
    ]


def _of_table(
    landing: Path, path: str, file: Any, time_column: str, first: date, end: date
) -> Iterator[tuple[Any, int, int, str, dict[str, Any]]]:
    """What landed of a table on some days, in order: time, rank among what is of the same time, id, path, body."""
    for number in range((end - first).days):
        rows = pl.read_parquet(file(landing, first + timedelta(days=number)))
        for row in rows.sort(time_column, KEY).iter_rows(named=True):
            at = row[time_column]
            yield at, int(path == SCORE), row[KEY], path, {**row, time_column: at.isoformat()}


def _served(homes: ReplayHomes) -> pl.DataFrame:
    """The prediction log of the replay, as it lands."""
    landing = homes.folder / "logged"
    land_logs(Settings(home=homes.serving, landing_url=str(landing), **homes.settings))
    return pl.concat([pl.read_parquet(path) for path in sorted((landing / TABLE).glob("*.parquet"))])


def _bulk(homes: ReplayHomes, features: pl.DataFrame) -> pl.DataFrame:
    """What the score command makes of the offline features."""
    source, target = homes.folder / "features.parquet", homes.folder / "scores.parquet"
    features.write_parquet(source)
    run(platform_command("--home", str(homes.serving), "score", str(source), "-o", str(target)))
    return pl.read_parquet(target)


def _stored(session: Session, asset: str, partition: str) -> pl.DataFrame:
    """A partition that is current."""
    return session.workspace.lake.read(asset, partition, session.versions()[asset][partition])


if __name__ == "__main__":
    main()
