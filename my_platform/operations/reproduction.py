"""Rebuilding a model from the versions that it was recorded with, on another home."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

from my_platform.errors import PlatformError
from my_platform.incremental.declare import Grain
from my_platform.learning.contender import Contender
from my_platform.learning.registry import Candidate
from my_platform.learning.tracking import manifest_digest
from my_platform.operations.models import Models
from my_platform.operations.platform import Workspace
from my_platform.operations.session import opened
from my_platform.settings import Settings
from my_platform.storage.lake import Lake

_TRAINING_SET = "training_set"


@dataclass(frozen=True)
class Made:
    """A weekly value that is made again: its data and code version, and the weekly values that it was made from."""

    version: str
    code: str
    made_from: frozenset[str]


@dataclass(frozen=True)
class Agreement:
    """The figure of a model and of the one that was built in its place, on the same test rows.

    Attributes:
        week: whose test rows they are.
        within: by how much the two may differ.
    """

    measure: str
    week: str
    recorded: float
    rebuilt: float
    within: float

    @property
    def kept(self) -> bool:
        return abs(self.rebuilt - self.recorded) <= self.within

    def __str__(self) -> str:
        return (
            f"{self.measure} {self.rebuilt:.4f} in place of {self.recorded:.4f} on week {self.week}, "
            f"{'within' if self.kept else 'more than'} {self.within:g} apart"
        )


@dataclass(frozen=True)
class Rebuilt:
    """A model that was built again.

    Attributes:
        recorded, found: data versions of what was made on the way, as they were and as they came out.
        taken: the stored values that were taken over, by number.
        other_code: the assets whose code is not the one that the model was made by.
        problems: what failed, in words.
        agreement: where the model is another one and may be: whether it is as good.
    """

    candidate: Candidate
    home: Path
    recorded: Mapping[str, str]
    found: Mapping[str, str]
    training_set_digest: str
    taken: int
    other_code: tuple[str, ...]
    problems: tuple[str, ...]
    agreement: Agreement | None = None

    @property
    def same(self) -> bool:
        return self.recorded == self.found

    @property
    def reproduced(self) -> bool:
        """Whether it came out the same, or as near to it as its contender declares."""
        return self.same or (self.agreement is not None and self.agreement.kept)

    def as_json(self) -> dict[str, Any]:
        """The shape that the command line prints."""
        return {
            "model": self.candidate.model,
            "week": self.candidate.week,
            "same": self.same,
            "reproduced": self.reproduced,
            "agreement": {**asdict(self.agreement), "kept": self.agreement.kept} if self.agreement else None,
            "data_version": {
                "recorded": self.recorded[self.candidate.model],
                "rebuilt": self.found.get(self.candidate.model),
            },
            "training_set_digest": self.training_set_digest,
            "made": {
                name: {"recorded": version, "rebuilt": self.found.get(name)}
                for name, version in self.recorded.items()
            },
            "partitions_taken": self.taken,
            "other_code": list(self.other_code),
            "problems": list(self.problems),
            "home": str(self.home),
        }


def reproduce(models: Models, settings: Settings, candidate: Candidate, home: Path) -> Rebuilt:
    """Build a model again on an empty home: itself and its weekly inputs, from the daily values recorded.

    Which values those are stands in the model's own object, so a correction that landed since changes nothing.
    From landing only the calendar is taken.

    Raises:
        PlatformError: the other home is not empty.
        DamagedObject: a value that the model was made from is not stored any more.
    """
    if home.exists() and any(home.iterdir()):
        raise PlatformError(f"{home} is not empty; name a folder that is, or none for one that is removed")
    workspace, contender = models.workspace, models.contender(candidate.model)
    made, taken, manifest = _recorded(workspace, candidate)
    landing = settings.landing_url or settings.landing
    there = settings.model_copy(
        update={
            "home": home,
            "landing_url": landing,
            "lake_url": None,
            "promote": "never",
            "retraining": "always",
        }
    )
    with opened(there) as session:
        for asset, partition, version in taken:
            session.workspace.lake.take(workspace.lake, asset, partition, version)
            session.heads.bring(asset, partition, version, str(settings.home))
        week = date.fromisoformat(candidate.week)
        report = session.refresh(select=",".join(sorted(made)), first=week, through=week)
        heads = session.heads.read(sorted(made))
        recorded = {name: each.version for name, each in made.items()}
        found = {
            name: of_week[candidate.week] for name, of_week in heads.items() if candidate.week in of_week
        }
        agreement = None
        if _only_models_differ(models, made, found):
            version = found[candidate.model]
            agreement = _agreement(models, contender, candidate, session.workspace.lake, version)
    return Rebuilt(
        candidate,
        home,
        recorded=recorded,
        found=found,
        training_set_digest=manifest_digest(manifest),
        taken=len(taken),
        other_code=tuple(
            name for name, each in sorted(made.items()) if workspace.project.code_versions[name] != each.code
        ),
        problems=tuple(report.problems),
        agreement=agreement,
    )


def _only_models_differ(models: Models, made: Mapping[str, Made], found: Mapping[str, str]) -> bool:
    """Whether all is there, and what differs is a model that may come out as another one, or made of one that did."""
    if found.keys() != made.keys():
        return False
    differ = {name for name, each in made.items() if found[name] != each.version}

    def may(name: str) -> bool:
        contender = models.contenders.get(name)
        declared = contender is not None and contender.reproduced_within is not None
        return declared or bool(made[name].made_from & differ)

    return bool(differ) and all(map(may, differ))


def _agreement(
    models: Models, contender: Contender, candidate: Candidate, rebuilt: Lake, version: str
) -> Agreement | None:
    """How good both are on the test of the model's week, of the last tested one where that is to come.

    None where the contender declares nothing, or the figure is not defined on that week.
    """
    weekly, measure = models.weekly, contender.measure
    tested = weekly.current(contender.test_set)
    if contender.reproduced_within is None or not tested:
        return None
    week = candidate.week if candidate.week in tested else max(tested)
    rows = weekly.unscored(contender, week)
    if not measure.tells(rows):
        return None
    features = weekly.features(contender, week)

    def value(lake: Lake, version: str) -> float:
        files = lake.read(candidate.model, candidate.week, version).select("name", "content")
        scores = contender.load(dict(files.rows()))(features)
        return measure.value(rows.with_columns(score=pl.Series(scores)))

    recorded = value(weekly.lake, candidate.version)
    return Agreement(
        measure.name, week, recorded, value(rebuilt, version), within=contender.reproduced_within
    )


def _recorded(
    workspace: Workspace, candidate: Candidate
) -> tuple[dict[str, Made], list[tuple[str, str, str]], Mapping[str, Mapping[str, str]]]:
    """Of a model: what is made again, what is taken, and what it was trained on."""
    made: dict[str, Made] = {}
    taken: set[tuple[str, str, str]] = set()
    manifest: Mapping[str, Mapping[str, str]] = {}
    todo = [(candidate.model, candidate.version)]
    while todo:
        name, version = todo.pop()
        record = workspace.lake.record(name, candidate.week, version)
        if record is None:
            raise PlatformError(
                f"{name} {candidate.week} {version[:12]} is not stored any more, so it cannot be built again; "
                "models that MLflow knows stay unless they are removed by hand"
            )
        if name == _TRAINING_SET:
            manifest = record["inputs"]
        made_from = set()
        for asset, versions in record["inputs"].items():
            for partition, of_input in versions.items():
                if workspace.project.assets[asset].grain is Grain.WEEK and partition == candidate.week:
                    todo.append((asset, of_input))
                    made_from.add(asset)
                else:
                    taken.add((asset, partition, of_input))
        made[name] = Made(version, record["code_version"], frozenset(made_from))
    return made, sorted(taken), manifest
