"""Model runs in MLflow: a SQLite file or a PostgreSQL schema, no MLflow server, native model files, nothing pickled."""

import contextlib
import hashlib
import json
import os
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from my_platform.settings import Settings
from my_platform.storage.objects import locked, replace_file
from my_platform.storage.session_lock import session_locked

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

_VERSION_TAG = "data_version"
_USER = "my_platform"


@dataclass(frozen=True)
class ModelRun:
    """What is tracked of one fitted model. ``files`` and ``documents`` become artifacts.

    Attributes:
        history: figures of the fit while it went on, by epoch or number of trees.
    """

    experiment: str
    name: str
    version: str
    parameters: Mapping[str, Any]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    files: Mapping[str, bytes] = field(default_factory=dict)
    documents: Mapping[str, Any] = field(default_factory=dict)
    history: Mapping[int, Mapping[str, float]] = field(default_factory=dict)


class Tracker:
    """The MLflow store of a home; MLflow is imported when it is first used.

    Args:
        folder: where the store and its artifacts lie, and the lock of those who write.
        server: the URI of a database server that holds the store instead, in the schema ``mlflow``, and that lock.
        artifacts: the URI below which artifacts lie instead.
        ui_url: where people see what is tracked.
    """

    def __init__(
        self, folder: Path, server: str = "", artifacts: str = "", ui_url: str = "http://127.0.0.1:5000"
    ) -> None:
        self.folder = folder
        self.ui_url = ui_url
        self.server = server
        self.artifacts = artifacts or (folder / "artifacts").absolute().as_uri()

    @classmethod
    def of(cls, settings: Settings) -> "Tracker":
        """The store that the settings name."""
        return cls(
            settings.mlflow_folder,
            settings.mlflow_uri,
            settings.mlflow_artifacts,
            settings.mlflow_ui_url.rstrip("/"),
        )

    @property
    def uri(self) -> str:
        return self.server or f"sqlite:///{self._database}"

    @property
    def is_empty(self) -> bool:
        """Whether nothing was ever tracked here, as far as it is known without asking a server."""
        return not self.server and not self._database.exists()

    @property
    def _database(self) -> Path:
        return self.folder / "mlflow.db"

    @cached_property
    def client(self) -> "MlflowClient":
        for name in ("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION"):
            os.environ[name] = "false"
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        import logging

        for name in ("alembic", "mlflow.store.db.utils"):
            logging.getLogger(name).setLevel(logging.WARNING)
        from mlflow.tracking import MlflowClient

        with self.alone():
            if self.server:
                _make_schema(self.server)
            elif not self._database.exists():
                self._make_database()
        return MlflowClient(tracking_uri=self.uri)

    def log_model(self, run: ModelRun) -> str:
        """Track a model; one that is tracked already is left as it is. The MLflow run id."""
        client = self.client
        with self.alone():
            found = self.find(run.experiment, run.version, run.tags.get("week"))
            if found is None:
                self._delete_unfinished(run.experiment)
                return self._create(run)
            if found.info.status == "RUNNING":
                client.set_terminated(found.info.run_id)
            return str(found.info.run_id)

    def page_of(self, experiment: str, run_id: str) -> str:
        """The page of a run in MLflow's UI."""
        return f"{self.ui_url}/#/experiments/{self._experiment(experiment)}/runs/{run_id}"

    def _create(self, run: ModelRun) -> str:
        from mlflow.entities import Metric, Param, RunTag
        from mlflow.utils.time import get_current_time_millis

        created = self.client.create_run(
            self._experiment(run.experiment),
            run_name=run.name,
            tags={"mlflow.source.name": _USER, "mlflow.user": _USER},
        )
        run_id = str(created.info.run_id)
        now = get_current_time_millis()
        with tempfile.TemporaryDirectory() as folder:
            for name, data in run.files.items():
                replace_file(Path(folder) / name, data)
            for name, document in run.documents.items():
                replace_file(Path(folder) / name, json.dumps(document, sort_keys=True, indent=1).encode())
            self.client.log_artifacts(run_id, folder, "model")
        # The tag by which a run is found is written last: a run that was cut short is not found.
        self.client.log_batch(
            run_id,
            metrics=[
                Metric(name, float(value), now, step)
                for step, metrics in {0: run.metrics, **run.history}.items()
                for name, value in metrics.items()
            ],
            params=[Param(name, str(value)) for name, value in run.parameters.items()],
            tags=[RunTag(name, value) for name, value in {**run.tags, _VERSION_TAG: run.version}.items()],
        )
        self.client.set_terminated(run_id)
        return run_id

    def log_metrics(self, experiment: str, version: str, metrics: Mapping[str, float]) -> None:
        """Add metrics to the run of a model, if it is tracked and does not have them."""
        found = self.find(experiment, version)
        if found is None:
            return
        for name, value in metrics.items():
            if found.data.metrics.get(name) != value:
                self.client.log_metric(found.info.run_id, name, value)

    def find(self, experiment: str, version: str, week: str | None = None) -> "Run | None":
        """The run of a model by its data version."""
        where = f"tags.{_VERSION_TAG} = '{version}'" + (f" and tags.week = '{week}'" if week else "")
        runs = self.client.search_runs([self._experiment(experiment)], where, max_results=1)
        return runs[0] if runs else None

    def _delete_unfinished(self, experiment: str) -> None:
        """Runs of a process that was killed; no other one creates any while the lock is held."""
        where = f"attributes.status = 'RUNNING' and tags.mlflow.user = '{_USER}'"
        for run in self.client.search_runs([self._experiment(experiment)], where):
            if _VERSION_TAG not in run.data.tags:
                self.client.delete_run(run.info.run_id)

    def _make_database(self) -> None:
        """MLflow cannot go on with tables that a killed process had half made: they get their name whole."""
        from mlflow.tracking import MlflowClient

        half, whole = self.folder / ".mlflow.db.half", self.folder / ".mlflow.db.whole"
        for left in self.folder.glob(".mlflow.db.*"):
            left.unlink()
        MlflowClient(tracking_uri=f"sqlite:///{half}").search_experiments(max_results=1)
        with contextlib.closing(sqlite3.connect(half)) as connection:
            connection.execute("vacuum into ?", (str(whole),))
        os.replace(whole, self._database)
        for left in self.folder.glob(".mlflow.db.*"):
            left.unlink()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Held by one process at a time while it writes to the store: of all machines, where a server has it."""
        if not self.server:
            with locked(self.folder / ".lock"):
                yield
            return
        import sqlalchemy as sa

        engine = sa.create_engine(self.server, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection, session_locked(connection, "models"):
            yield

    def _experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        try:
            return self.client.create_experiment(name, artifact_location=self.artifacts)
        except MlflowException:
            # Another process made it in between.
            found = self.client.get_experiment_by_name(name)
            if found is None:
                raise
            return str(found.experiment_id)


def _make_schema(uri: str) -> None:
    import sqlalchemy as sa

    engine = sa.create_engine(uri)
    try:
        with engine.begin() as connection:
            connection.execute(sa.text("create schema if not exists mlflow"))
    finally:
        engine.dispose()


def manifest_digest(manifest: Mapping[str, Mapping[str, str]]) -> str:
    """SHA-256 over (asset, partition, data version) of all that a training set was made of."""
    rows = sorted(
        (asset, key, version) for asset, found in manifest.items() for key, version in found.items()
    )
    return hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()
