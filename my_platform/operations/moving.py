"""Moving a home from one machine's disk into a bucket, and its events into PostgreSQL, with nothing computed again.

First the files are carried over, which takes as long as it takes and may be cut off anywhere; then, while nobody can
make anything current, what has come since, the models, the heads, the ledgers with their bundles where machines are to
share them, and last the index and the configuration by which the home lies there from then on. Each step may be done
again. What lies in the old place is left there.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg

from my_platform.errors import HomeError, PlatformError
from my_platform.learning.registry_place import RegistryPlace
from my_platform.learning.store_move import copy_store, relocate
from my_platform.learning.tracking import Tracker
from my_platform.operations.formats import FORMAT, check_format
from my_platform.operations.history_move import copy_heads
from my_platform.operations.home import commit_lock, load_project, open_instance, prepare_domains
from my_platform.operations.instance_config import instance_config
from my_platform.operations.move_note import NAME as NOTE
from my_platform.operations.move_note import Note, begun
from my_platform.operations.orphans import orphans
from my_platform.operations.platform import Project
from my_platform.operations.profiles import profile_of
from my_platform.operations.ui import is_served
from my_platform.settings import Settings
from my_platform.storage.bucket import Patience
from my_platform.storage.landing import content_digest
from my_platform.storage.objects import BucketStore, locked_if_free, replace_file
from my_platform.storage.objects import locked as held
from my_platform.storage.places import LandingBucket
from my_platform.storage.sealed import check_seal
from my_platform.storage.trace_index import LandedFile, TraceIndex
from my_platform.storage.upload import Carried, Piece, carry, files_below, foreign, present, signatures

_PREFIXES = ("landing", "lake", "mlflow", "registry")
_INDEX = "index.sqlite"
_SETTLED_NS = 3_000_000_000


@dataclass(frozen=True)
class Moved:
    """What a move did, or would do.

    Attributes:
        carried: by landing, lake and mlflow.
        heads, rows: events and rows of MLflow that went to PostgreSQL; zeros where they stay in the home.
        lines: of the ledgers that are in the bucket now, with their bundles; zero where they stay in the home.
        variables: what to set from now on.
    """

    carried: Mapping[str, Carried]
    heads: int
    rows: int
    variables: Mapping[str, str]
    lines: int = 0
    before: bool = field(default=False)

    def as_json(self) -> dict[str, Any]:
        carried = {name: asdict(found) for name, found in self.carried.items()}
        return {
            "carried": carried, "heads": self.heads, "mlflow_rows": self.rows, "ledger_lines": self.lines,
            "moved_before": self.before, "variables": dict(self.variables),
        }  # fmt: skip


class Move:
    """A home on its way into a bucket.

    Args:
        settings: of the home, in the profile that it is to have, with the bucket that it goes to.
    """

    def __init__(self, settings: Settings) -> None:
        assert settings.bucket_url is not None
        folders = {
            name: url if url is not None and "://" not in url else None
            for name, url in (("landing_url", settings.landing_url), ("lake_url", settings.lake_url))
        }
        self.here = settings.model_copy(update={"profile": "embedded", "bucket_url": None, **folders})
        self.to = settings.model_copy(update={"landing_url": None, "lake_url": None})
        self.target = settings.bucket_url
        self.store = BucketStore.from_url(self.target, Patience.of(settings))
        self.home = settings.home

    @property
    def variables(self) -> dict[str, str]:
        """What to set from now on."""
        return {
            **({"MY_PLATFORM_PROFILE": self.to.profile} if self.to.profile != "embedded" else {}),
            "MY_PLATFORM_HOME": str(self.home),
            "MY_PLATFORM_BUCKET_URL": self.target,
        }

    def run(self, *, dry_run: bool = False) -> Moved:
        """Carry the home over, or say what would be carried.

        Raises:
            PlatformError: the home cannot be moved, is at work, or the target is not empty and not of this move.
        """
        from obstore.exceptions import BaseError

        self._check_home()
        with locked_if_free(self.home / "move.lock", wait=False) as free:
            if not free:
                raise PlatformError(f"another `my-platform move` is at work on {self.home}; wait for it")
            try:
                return self._run(dry_run=dry_run)
            except (BaseError, FileNotFoundError) as error:
                raise PlatformError(
                    f"{self.target} cannot be used: {str(error).splitlines()[0]}. Make the bucket, or correct the AWS_… "
                    "variables; what was sent stays there, and the same command goes on from it"
                ) from error

    def _run(self, *, dry_run: bool) -> Moved:
        note = self._note(dry_run=dry_run)
        if note.finished:
            return Moved({}, 0, 0, self.variables, before=True)
        pieces = self._pieces()
        seen = {name: signatures(piece) for name, piece in pieces.items()}
        carried = {name: carry(self.store, piece, dry_run=dry_run) for name, piece in pieces.items()}
        if dry_run:
            return Moved(carried, 0, 0, self.variables)
        with held(commit_lock(self.here)):
            last = self._carry_rest(seen)
            rows = self._models()
            heads = self._heads(note)
            lines = RegistryPlace.of(self.to).pull()
            self._switch()
        done = note.ended()
        self.store.replace(NOTE, done.data)
        replace_file(self.home / NOTE, done.data)
        return Moved(
            {name: carried[name] + last[name] for name in carried}, heads, rows, self.variables, lines
        )

    def _check_home(self) -> None:
        found = check_format(self.home)
        if found is None:
            raise HomeError(f"{self.home} is no home, so there is nothing to move")
        if found < FORMAT:
            raise HomeError(
                f"{self.home} has format {found}; run `my-platform prepare --home {self.home}` first"
            )
        profile = profile_of(self.here.dagster_home / "dagster.yaml")
        if profile not in ("embedded", self.to.profile):
            raise HomeError(
                f"{self.home} is of the profile {profile or 'that its own dagster.yaml describes'}"
            )
        if is_served(self.here):
            raise HomeError(
                f"`my-platform ui` serves {self.home}: end it first, and start it in the new place"
            )
        if profile == "embedded":
            with self._instance(self.here) as instance:
                gone = {run.run_id for run in orphans(instance)}
                started = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
                at_work = [run.run_id for run in started if run.run_id not in gone]
            if at_work:
                raise HomeError(f"run {at_work[0]} is at work on {self.home}: wait for its end, or end it")

    def _note(self, *, dry_run: bool) -> Note:
        """What is known of this move; begun where nothing is. The home has the id before the target does."""
        path = self.home / NOTE
        ours = Note.read(path.read_bytes(), str(path)) if path.exists() else None
        if ours is not None and ours.target != self.target:
            raise PlatformError(
                f"{self.home} {'was moved' if ours.finished else 'is on its way'} to {ours.target}, since "
                f"{ours.at}. Go on with that, or remove {path} if that place is given up"
            )
        theirs = Note.read(self.store.read(NOTE), NOTE) if self.store.exists(NOTE) else None
        if theirs is not None and (ours is None or theirs.id != ours.id):
            raise PlatformError(
                f"{self.target} is the place of another home, {theirs.home}, since {theirs.at}; name an empty one"
            )
        if theirs is None and (path_there := foreign(self.store, _PREFIXES)) is not None:
            raise PlatformError(f"{self.target} is not empty: {path_there} lies there; name an empty place")
        if theirs is not None:
            return theirs
        note = ours or begun(str(self.home), self.target)
        if not dry_run:
            replace_file(path, note.data)
            if not self.store.create(NOTE, note.data):
                raise PlatformError(
                    f"another home is being moved to {self.target} at this moment; name another place"
                )
        return note

    def _pieces(self) -> dict[str, Piece]:
        landing, lake = Path(self.here.landing), Path(self.here.lake)
        models = self.here.mlflow_folder / "artifacts"
        return {
            "landing": Piece(landing, "landing", tuple(files_below(landing)), changes=True),
            "lake": Piece(lake, "lake", tuple(files_below(lake, _no_object)), check_seal),
            "mlflow": Piece(models, "mlflow", tuple(files_below(models))),
        }

    def _carry_rest(self, before: Mapping[str, Mapping[str, tuple[int, int]]]) -> dict[str, Carried]:
        """Carry over what is new or has changed since the first pass, which nobody waits for.

        Raises:
            PlatformError: a file lies in the new landing and not in the old one.
        """
        pieces = self._pieces()
        strange = sorted(present(self.store, "landing").keys() - set(pieces["landing"].names))
        if strange:
            raise PlatformError(
                f"{self.to.landing}/{strange[0]} lies there and not in {self.here.landing}: remove the one or land the "
                "other, and call the same command again"
            )
        found = {}
        for name, piece in pieces.items():
            now = signatures(piece)
            names = tuple(each for each in piece.names if now.get(each) != before[name].get(each))
            found[name] = carry(self.store, replace(piece, names=names)) if names else Carried()
        return found

    def _models(self) -> int:
        """Have MLflow find its files in the bucket, and its rows in PostgreSQL where the profile says so."""
        database = self.here.mlflow_folder / "mlflow.db"
        if not database.exists():
            return 0
        old, target = Tracker.of(self.here).artifacts, Tracker.of(self.to)
        if target.server:
            return copy_store(database, target, old)
        import sqlalchemy as sa

        engine = sa.create_engine(target.uri)
        try:
            relocate(engine, old, target.artifacts)
        finally:
            engine.dispose()
        return 0

    def _heads(self, note: Note) -> int:
        """Tell PostgreSQL what is current; 0 where events stay in the home."""
        config = self.here.dagster_home / "dagster.yaml"
        if self.to.profile == "embedded" or profile_of(config) != "embedded":
            return 0
        beside = self.to.model_copy(update={"home": self.home / ".moving"})
        replace_file(beside.dagster_home / "dagster.yaml", instance_config(self.to.profile).encode())
        try:
            with self._instance(self.here) as source, self._instance(beside) as target:
                return copy_heads(self.project, source, target, Path(self.here.lake), note.id)
        finally:
            shutil.rmtree(beside.home, ignore_errors=True)

    def _switch(self) -> None:
        index = Path(self.here.lake) / _INDEX
        target = self.home / "lake" / _INDEX
        if index.exists():
            if index != target and not target.exists():
                replace_file(target, index.read_bytes())
            TraceIndex.relabel(target, self.to.lake, self._landed())
        config = self.here.dagster_home / "dagster.yaml"
        if self.to.profile != "embedded" and profile_of(config) == "embedded":
            replace_file(config.with_name("dagster.yaml.embedded"), config.read_bytes())
            replace_file(config, instance_config(self.to.profile).encode())

    def _landed(self) -> Iterator[LandedFile]:
        """The landed files as they lie in the bucket: they need not be read to know what they say."""
        place, landing = LandingBucket(self.to.landing, Patience.of(self.to)), Path(self.here.landing)
        for table in self.project.tables:
            for listed in place.list(table):
                path = landing / listed.path
                if path.is_file():
                    digest = content_digest(path.read_bytes()).hex()
                    # What was written just now may change again with the same time, but not with the same ETag.
                    at = listed.mtime_ns + _SETTLED_NS
                    yield LandedFile(listed.path, listed.size, listed.mtime_ns, listed.mark, digest, at)

    @cached_property
    def project(self) -> Project:
        prepare_domains(self.here)
        return load_project(self.here)

    @contextmanager
    def _instance(self, settings: Settings) -> Iterator[dg.DagsterInstance]:
        before = os.environ.get("DAGSTER_HOME")
        try:
            with open_instance(settings) as instance:
                yield instance
        finally:
            os.environ.pop("DAGSTER_HOME", None)
            if before is not None:
                os.environ["DAGSTER_HOME"] = before


def _no_object(name: str) -> bool:
    return not name.endswith(".parquet")
