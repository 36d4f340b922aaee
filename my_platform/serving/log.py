"""The prediction log: what was scored, with which features and which bundle, and the labels that came back.

One process writes it, anyone reads it. A group of requests is one transaction, and a reply follows it.
"""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from my_platform.serving.store import StoreError
from my_platform.serving.transactions import transaction

Durability = Literal["process", "power"]

# Counted up when the tables change their form; the log's readers look at it.
LOG_VERSION = 1
_SCHEMA = """
create table predictions (
    key text primary key, second integer not null, at_us integer not null, row text not null,
    bundle text not null, features text not null, degraded text, probability real not null,
    threshold real not null, flagged integer not null, latency_us integer not null,
    shadow_bundle text, shadow_probability real
);
create table feedback (
    number integer primary key, key text not null, at_us integer not null, label text not null
);
create index feedback_of_key on feedback (key)
"""
# What came later; a log without it is of the same form.
_ADDED = (
    "create table if not exists withdrawn (feedback integer primary key, at_us integer not null)",
    "create table if not exists outcomes (number integer primary key, entity text not null, case_number integer not "
    "null, at_us integer not null, who text not null, through integer not null, body text not null)",
    "create index if not exists outcomes_of_entity on outcomes (entity, through)",
)
_STANDING = "number not in (select feedback from withdrawn)"
LABELS_OF = f"select label from feedback where key = ? and {_STANDING} order by number"
_COLUMNS = (
    "key, second, at_us, row, bundle, features, degraded, probability, threshold, flagged, latency_us, "
    "shadow_bundle, shadow_probability"
)
# As many values may stand in one statement.
_KEYS_AT_ONCE = 500


class Prediction(NamedTuple):
    """A scored row, as `predictions` holds it: `row` and `features` are JSON, `second` is the row's own time."""

    key: str
    second: int
    at_us: int
    row: str
    bundle: str
    features: str
    degraded: str | None
    probability: float
    threshold: float
    flagged: int
    latency_us: int
    shadow_bundle: str | None
    shadow_probability: float | None

    @property
    def features_list(self) -> list[float | None]:
        """The features in the order of the bundle, None where missing."""
        found: list[float | None] = json.loads(self.features)
        return found


class Feedback(NamedTuple):
    """A label as it came: `label` is JSON, with the label's own columns."""

    number: int
    key: str
    at_us: int
    label: str


class PredictionLog:
    """The log in an SQLite file.

    Args:
        path: the file; made where it is missing.
        durability: `process` keeps what was written when the process dies, `power` also when the machine does,
            at the price of a write to the disk for each group of requests.

    Raises:
        StoreError: the file cannot be opened, or is of a newer version of the platform.
    """

    def __init__(self, path: Path, *, durability: Durability = "process") -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._database = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
        try:
            self._database.execute("pragma journal_mode = wal")
            self._database.execute(f"pragma synchronous = {'full' if durability == 'power' else 'normal'}")
            # See `settle`.
            self._database.execute("pragma wal_autocheckpoint = 0")
            with transaction(self._database):
                self._prepare()
        except sqlite3.Error as error:
            self._database.close()
            raise StoreError(
                f"prediction log {path}: {error}; it is no database of this platform, or not writable: move it "
                "away or give this process the right to write"
            ) from error
        except StoreError:
            self._database.close()
            raise

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection that writes, for what is kept in the log beside predictions and labels."""
        return self._database

    def append(self, predictions: Sequence[Prediction]) -> None:
        """Write predictions in one transaction; they are durable when this returns."""
        marks = ", ".join("?" * len(Prediction._fields))
        with transaction(self._database):
            self._database.executemany(f"insert into predictions ({_COLUMNS}) values ({marks})", predictions)

    def tell(self, key: str, at_us: int, label: str) -> None:
        """Write a label that came back."""
        with transaction(self._database):
            self._database.execute(
                "insert into feedback (key, at_us, label) values (?, ?, ?)", (key, at_us, label)
            )

    def find(self, keys: Sequence[str]) -> dict[str, Prediction]:
        """What was predicted for these keys, by key; those that were never scored are left out."""
        found: dict[str, Prediction] = {}
        for first in range(0, len(keys), _KEYS_AT_ONCE):
            part = keys[first : first + _KEYS_AT_ONCE]
            marks = ", ".join("?" * len(part))
            rows = self._database.execute(f"select {_COLUMNS} from predictions where key in ({marks})", part)
            found |= {row[0]: Prediction(*row) for row in rows}
        return found

    def labels(self, key: str) -> list[Feedback]:
        """The labels that came back for a key and stand, in the order they came."""
        rows = self._database.execute(
            f"select number, key, at_us, label from feedback where key = ? and {_STANDING} order by number",
            (key,),
        )
        return [Feedback(*row) for row in rows]

    def latest_predictions(self) -> Iterator[Prediction]:
        """All predictions, the last written first."""
        rows = self._database.execute(f"select {_COLUMNS} from predictions order by rowid desc")
        return (Prediction(*row) for row in rows)

    def latest_labels(self) -> Iterator[Feedback]:
        """All labels that stand, the last written first."""
        rows = self._database.execute(
            f"select number, key, at_us, label from feedback where {_STANDING} order by number desc"
        )
        return (Feedback(*row) for row in rows)

    def withdraw(self, label: Feedback, at_us: int) -> None:
        """Let a label stand no more."""
        with transaction(self._database):
            self._database.execute("insert into withdrawn values (?, ?)", (label.number, at_us))

    def withdrawn(self) -> list[Feedback]:
        """All labels that stand no more."""
        rows = self._database.execute(
            "select number, key, feedback.at_us, label from feedback join withdrawn on feedback = number"
        )
        return [Feedback(*row) for row in rows]

    def settle(self) -> None:
        """Put what was written in its place in the file, which waits for the disk: for another thread."""
        other = sqlite3.connect(self.path, timeout=5.0, isolation_level=None)
        try:
            other.execute("pragma wal_checkpoint(passive)").fetchall()
        finally:
            other.close()

    def close(self) -> None:
        self._database.close()

    def _prepare(self) -> None:
        version = self._database.execute("pragma user_version").fetchone()[0]
        if version > LOG_VERSION:
            raise StoreError(
                f"prediction log {self.path}: it is of version {version}, and this platform knows {LOG_VERSION}; use "
                "the newer platform"
            )
        if version == 0:
            for statement in _SCHEMA.split(";\n"):
                self._database.execute(statement)
            self._database.execute(f"pragma user_version = {LOG_VERSION}")
        for statement in _ADDED:
            self._database.execute(statement)
