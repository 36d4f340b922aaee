"""A small home with a promoted model, services on it as real processes, and other bundles to promote."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from assets_tests import homes
from my_platform.learning.bundle import read_bundle, write_bundle
from my_platform.learning.ledger import Line, PromotionLedger, Served, now
from my_platform.operations.promotion import promote

DAYS = 30
SETTINGS = {"boosting_rounds": 10, "training_window_days": 14}
SCORE_TOKEN, FEEDBACK_TOKEN, READ_TOKEN = ("scores-" + "s" * 20, "labels-" + "f" * 20, "reads-" + "r" * 20)
ALL_TOKEN = "everything-" + "a" * 20
TOKENS = [
    {"name": "till", "scopes": ["score"], "token": SCORE_TOKEN},
    {"name": "desk", "scopes": ["feedback"], "token": FEEDBACK_TOKEN},
    {"name": "watch", "scopes": ["read"], "token": READ_TOKEN},
    {"name": "all", "scopes": ["score", "feedback", "read", "cases"], "token": ALL_TOKEN},
]


def make(home: Path, customers: int = 60, terminals: int = 120, **given: Any) -> None:
    """Land some weeks, fit their models, and promote the latest."""
    homes.land(home / "landing", DAYS, customers=customers, terminals=terminals)
    with homes.session(home, **{**SETTINGS, **given}) as session:
        names = session.workspace.project.ancestors(["fraud_lightgbm_onnx", "predictions"])
        assert session.refresh(select=",".join(sorted(names))).problems == []
        models = session.models
        done = promote(models, models.candidate("fraud_lightgbm"), who="test", why="a test", forced=True)
        assert done.serves
    (home / "tokens.json").write_text(json.dumps(TOKENS))
    # The first weeks were tested on nothing, so the threshold is chosen here.
    promote_copy(home, threshold=0.02)


def copied(home: Path, folder: Path) -> Path:
    """The home anew, without what a service has written there."""
    return Path(shutil.copytree(home, folder / "home", ignore=shutil.ignore_patterns("serving")))


def row(number: int, **given: Any) -> dict[str, Any]:
    """A transaction of the day after the last landed one."""
    minute = number % 1440
    return {
        "TRANSACTION_ID": 10_000_000 + number,
        "TX_DATETIME": f"{homes.day(DAYS)}T{minute // 60:02}:{minute % 60:02}:{number // 1440 % 60:02}",
        "CUSTOMER_ID": number % 60,
        "TERMINAL_ID": number % 120,
        "TX_AMOUNT": 1.0 + number % 300,
        **given,
    }


def promote_copy(
    home: Path, *, threshold: float, files: Mapping[str, bytes] | None = None, **about: Any
) -> str:
    """Make the champion's bundle with another threshold, or other files, champion; its digest."""
    ledger = PromotionLedger(home / "registry" / "promotions.jsonl")
    standing = ledger.standing("fraud")
    champion = standing.champion
    assert champion is not None
    folder = home / "registry" / "bundles"
    bundle = read_bundle(folder, ledger.lines("fraud")[0].after.bundle)
    told = {**bundle.about, "operating_threshold": {"looked_at_a_day": 100, "score": threshold}, **about}
    del told["files"]
    digest = write_bundle(folder, told, {**bundle.files, **(files or {})})
    served = Served(champion.model, champion.week, champion.version, champion.recipe, digest)
    line = Line(now(), "test", "promote", "fraud", "a test", champion, served)
    assert ledger.append(line, standing)
    return digest


@dataclass
class Running:
    """A service in a process of its own."""

    home: Path
    process: subprocess.Popen[str]
    url: str
    clients: list[httpx.Client] = field(default_factory=list)

    def client(self, token: str | None = ALL_TOKEN) -> httpx.Client:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self.clients.append(httpx.Client(base_url=self.url, headers=headers, timeout=30))
        return self.clients[-1]

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()

    def end(self) -> int:
        """Terminate it; its exit code."""
        for client in self.clients:
            client.close()
        self.process.terminate()
        self.process.communicate(timeout=30)
        return self.process.returncode

    def log(self, statement: str) -> list[tuple[Any, ...]]:
        """What its prediction log answers."""
        with sqlite3.connect(self.home / "serving" / "fraud" / "log.sqlite") as log:
            return log.execute(statement).fetchall()


@contextmanager
def serving(home: Path, before: Sequence[str] = (), **settings: object) -> Iterator[Running]:
    """A service on a home, with the tokens above unless others are named; `before` its command stand these words."""
    given = {"serve_tokens": home / "tokens.json", **SETTINGS, **settings}
    process = homes.start(home, "serve", "--port", "0", before=before, **given)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("listening at "):
            raise AssertionError(process.communicate()[1])
        yield Running(home, process, line.split()[-1])
    finally:
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=30)


def until(condition: Any, within_s: float = 30) -> None:
    """Ask again until a condition holds."""
    ends = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < ends, "it did not come to hold"
