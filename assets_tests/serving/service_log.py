"""A prediction log as the scoring service writes it: rows of a home scored in time order, labels fed when known."""

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from my_platform.domains.fraud.contracts import TRANSACTIONS as CONTRACT
from my_platform.domains.fraud.features import (
    FEATURE_SETS,
    LABELLED_TRANSACTIONS,
    SPENDING_TABLE,
    TRANSACTIONS,
)
from my_platform.features.declaration import FeatureSet
from my_platform.features.online import OnlineFeatures, compile_online
from my_platform.learning.bundle import read_bundle
from my_platform.learning.export.scoring import load_onnx
from my_platform.operations.session import Session
from my_platform.serving.sqlite_store import SqliteStore
from my_platform.serving.state import OnlineState, ValidatedDay

USE = "fraud"
_TABLES = """
create table predictions (
  key text primary key, second integer not null, at_us integer not null, row text not null, bundle text not null,
  features text not null, degraded text, probability real not null, threshold real not null,
  flagged integer not null, latency_us integer not null, shadow_bundle text, shadow_probability real);
create table feedback (number integer primary key, key text not null, at_us integer not null, label text not null);
pragma user_version = 1;
"""
_ROW = dict(CONTRACT.schema)

Told = Callable[[dict[str, Any]], dict[str, Any]]


def forms(session: Session, sets: Sequence[FeatureSet] = FEATURE_SETS) -> list[OnlineFeatures]:
    """The domain's feature sets in their online form, or others of the same names."""
    spending, usual, risk = sets
    first = compile_online(spending, _ROW)
    labelled = session.workspace.project.assets[LABELLED_TRANSACTIONS].columns
    return [
        first,
        compile_online(usual, first.table_types),
        compile_online(risk, _ROW, {name: column.type for name, column in labelled.items()}),
    ]


def serve(
    session: Session,
    days: Sequence[str],
    *,
    sets: Sequence[FeatureSet] = FEATURE_SETS,
    told: Told = dict,
    doubted: frozenset[int] = frozenset(),
) -> Path:
    """Score the transactions of some days, one after the other, with the champion; the log.

    Args:
        sets: what the service takes for the feature sets.
        told: what the service is told of a row, of the row as it lands.
        doubted: ids of rows that the service calls degraded.
    """
    champion = session.models.registry.ledger.standing(USE).champion
    assert champion is not None
    bundle = read_bundle(session.models.registry.bundles, champion.bundle)
    model = load_onnx(bundle.files["model.onnx"], bundle.about["features"])
    # A champion that no week has tested yet has none.
    threshold = bundle.about["operating_threshold"]["score"] or 0.5
    path = session.settings.serving / USE / "log.sqlite"
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = not path.exists()
    with closing(sqlite3.connect(path)) as log:
        if fresh:
            log.executescript(_TABLES)
        store = SqliteStore(path.with_name("state.sqlite"))
        try:
            state = OnlineState(forms(session, sets), store)
            _bootstrap(session, state, before=days[0])
            names = list(state.features)
            for row in _events(session, state, days):
                seen = told(row)
                (answer,) = state.score([seen])
                found = dict(zip(names, answer.values, strict=True))
                values = [found[name] for name in bundle.about["features"]]
                matrix = np.array([[np.nan if v is None else float(v) for v in values]])
                probability = float(model.rows(matrix)[0])
                key = row["TRANSACTION_ID"]
                degraded = answer.degraded or ("asked for in doubt" if key in doubted else None)
                log.execute(
                    "insert into predictions values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, null, null)",
                    (
                        str(key),
                        row["TX_DATETIME"] // 1_000_000,
                        row["TX_DATETIME"] + 250_000,
                        json.dumps({**row, "TX_DATETIME": _iso(row["TX_DATETIME"])}),
                        champion.bundle,
                        json.dumps(values),
                        degraded,
                        probability,
                        threshold,
                        int(probability >= threshold),
                        400 + key % 200,
                    ),
                )
            log.commit()
        finally:
            store.close()
            path.with_name("state.sqlite").unlink()
    return path


def other(declared: FeatureSet, **changes: Any) -> list[FeatureSet]:
    """The domain's feature sets with one of them changed."""
    changed = replace(declared, **changes)
    return [changed if each.name == declared.name else each for each in FEATURE_SETS]


def table(session: Session, asset: str, partition: str) -> pl.DataFrame:
    """A stored partition that is current."""
    version = session.versions()[asset][partition]
    return session.workspace.lake.read(asset, partition, version)


def _bootstrap(session: Session, state: OnlineState, *, before: str) -> None:
    versions = session.versions()
    for asset in (TRANSACTIONS, SPENDING_TABLE, LABELLED_TRANSACTIONS):
        past = {day: version for day, version in versions[asset].items() if day < before}
        lake = session.workspace.lake
        state.bootstrap(
            asset,
            (ValidatedDay(day, version, lake.read(asset, day, version)) for day, version in past.items()),
        )


def _events(session: Session, state: OnlineState, days: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of some days in order; each label is told when its time has come."""
    rows = _of(session, TRANSACTIONS, days)
    labels = _of(session, "validated/fraud_reports", days)
    at = 0
    for row in rows:
        while at < len(labels) and labels[at]["REPORTED_AT"] <= row["TX_DATETIME"]:
            label: Mapping[str, Any] = {n: v for n, v in labels[at].items() if n != "TRANSACTION_ID"}
            state.label(LABELLED_TRANSACTIONS, labels[at]["TRANSACTION_ID"], label)
            at += 1
        yield row


def _of(session: Session, asset: str, days: Sequence[str]) -> list[dict[str, Any]]:
    versions = session.versions()[asset]
    found = pl.concat([session.workspace.lake.read(asset, day, versions[day]) for day in days])
    return found.with_columns(pl.selectors.temporal().to_physical()).to_dicts()


def _iso(microseconds: int) -> str:
    return (datetime(1970, 1, 1) + timedelta(microseconds=microseconds)).isoformat()
