"""Rebuilding a model from the versions that it was recorded with, on another home."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from my_platform.errors import PlatformError
from my_platform.incremental.declare import Grain
from my_platform.learning.registry import Candidate
from my_platform.learning.tracking import manifest_digest
from my_platform.operations.platform import Workspace
from my_platform.operations.session import opened
from my_platform.settings import Settings

_TRAINING_SET = "training_set"


@dataclass(frozen=True)
class Rebuilt:
    """A model that was built again.

    Attributes:
        recorded, found: data versions of what was made on the way, as they were and as they came out.
        taken: the stored values that were taken over, by number.
        other_code: the assets whose code is not the one that the model was made by.
        problems: what failed, in words.
    """

    candidate: Candidate
    home: Path
    recorded: Mapping[str, str]
    found: Mapping[str, str]
    training_set_digest: str
    taken: int
    other_code: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def same(self) -> bool:
        return self.recorded == self.found

    def as_json(self) -> dict[str, Any]:
        """The shape that the command line prints."""
        return {
            "model": self.candidate.model,
            "week": self.candidate.week,
            "same": self.same,
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


def reproduce(workspace: Workspace, settings: Settings, candidate: Candidate, home: Path) -> Rebuilt:
    """Build a model again on an empty home: itself and its weekly inputs, from the daily values recorded.

    Which values those are stands in the model's own object, so a correction that landed since changes nothing.
    From landing only the calendar is taken.

    Raises:
        PlatformError: the other home is not empty.
        DamagedObject: a value that the model was made from is not stored any more.
    """
    if home.exists() and any(home.iterdir()):
        raise PlatformError(f"{home} is not empty; name a folder that is, or none for one that is removed")
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
    return Rebuilt(
        candidate,
        home,
        recorded={name: version for name, (version, _) in made.items()},
        found={name: of_week[candidate.week] for name, of_week in heads.items() if candidate.week in of_week},
        training_set_digest=manifest_digest(manifest),
        taken=len(taken),
        other_code=tuple(
            name for name, (_, code) in sorted(made.items()) if workspace.project.code_versions[name] != code
        ),
        problems=tuple(report.problems),
    )


def _recorded(
    workspace: Workspace, candidate: Candidate
) -> tuple[dict[str, tuple[str, str]], list[tuple[str, str, str]], Mapping[str, Mapping[str, str]]]:
    """Of a model: what is made again with data and code versions, what is taken, and what it was trained on."""
    made: dict[str, tuple[str, str]] = {}
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
        made[name] = (version, record["code_version"])
        if name == _TRAINING_SET:
            manifest = record["inputs"]
        for asset, versions in record["inputs"].items():
            for partition, of_input in versions.items():
                if workspace.project.assets[asset].grain is Grain.WEEK and partition == candidate.week:
                    todo.append((asset, of_input))
                else:
                    taken.add((asset, partition, of_input))
    return made, sorted(taken), manifest
