"""Blast radius: which served predictions used a partition, in whichever of its versions.

A prediction uses a partition through its features, whose partition of the day names what it was made from, or through
its model, whose bundle does. Both are told by day: within a day, a row's windows may have held none of the
partition's rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from my_platform.errors import PlatformError
from my_platform.learning.bundle import read_bundle
from my_platform.operations.platform import Workspace, check_key
from my_platform.serving.log_landing import LoggedTable

FEATURES, MODEL = "features", "model"


@dataclass(frozen=True)
class BlastRadius:
    """Predictions that used a partition.

    Attributes:
        versions: the data versions of the partition that were used.
        by_day: rows by day and bundle, with what they used it through.
        rows: the predictions themselves: day, key, bundle, probability.
    """

    asset: str
    partition: str
    versions: Sequence[str]
    by_day: Sequence[Mapping[str, Any]] = field(default_factory=list)
    rows: Sequence[Mapping[str, Any]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {
            "asset": self.asset,
            "partition": self.partition,
            "versions": list(self.versions),
            "predictions": sum(each["rows"] for each in self.by_day),
            "by_day": list(self.by_day),
            "rows": list(self.rows),
        }


def blast_radius(
    workspace: Workspace,
    current: Mapping[str, Mapping[str, str]],
    logs: Sequence[LoggedTable],
    bundles: Path,
    asset: str,
    partition: str,
) -> BlastRadius:
    """Which logged predictions used a partition of an asset.

    Args:
        current: the data versions that are current, by asset and partition.
        logs: the prediction logs that land as tables.
        bundles: the folder of the bundles that they name.

    Raises:
        PlatformError: there is no such asset or partition.
    """
    project = workspace.project
    if asset not in project.assets:
        raise PlatformError(f"{asset} is no asset; there are {', '.join(sorted(project.assets))}")
    check_key(project.assets[asset], partition)
    made_of = _MadeOf(workspace, bundles, asset, partition)
    by_day: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for log in logs:
        for day, version in sorted(current.get(log.asset, {}).items()):
            columns = [log.key, "BUNDLE", "MODEL", "WEEK", "PROBABILITY"]
            frame = workspace.lake.read(log.asset, day, version, columns)
            through_features = made_of.any_version(log.feature_assets, day)
            for (bundle, model, week), part in frame.group_by("BUNDLE", "MODEL", "WEEK", maintain_order=True):
                through = [FEATURES] * bool(through_features)
                through += [MODEL] * bool(made_of.bundle(str(bundle)))
                if through:
                    told = {"day": day, "bundle": bundle, "model": model, "week": week}
                    by_day.append({**told, "rows": part.height, "through": through})
                    rows += _listed(part, day, log.key)
    return BlastRadius(asset, partition, sorted(made_of.versions), by_day, rows)


def _listed(part: pl.DataFrame, day: str, key: str) -> Iterator[dict[str, Any]]:
    for row in part.iter_rows(named=True):
        yield {"day": day, "key": row[key], "bundle": row["BUNDLE"], "probability": row["PROBABILITY"]}


class _MadeOf:
    """What stored values were made of, as their records tell, each asked once."""

    def __init__(self, workspace: Workspace, bundles: Path, asset: str, partition: str) -> None:
        self._workspace = workspace
        self._wanted = (asset, partition)
        self._bundles = bundles
        project = workspace.project
        self._related = {name for name in project.assets if asset in project.ancestors([name])}
        self._known: dict[tuple[str, str, str], bool] = {}
        self._stored: dict[tuple[str, str], set[str]] = {}
        self.versions: set[str] = set()

    def any_version(self, assets: Sequence[str], day: str) -> bool:
        """Whether any stored version of these assets' partitions of a day was made of the partition."""
        if not self._stored:
            for trace in self._workspace.lake.index.traces(sorted(assets)):
                self._stored.setdefault((trace.asset, trace.partition), set()).add(trace.data_version)
        found = [
            self._uses(name, day, version)
            for name in assets
            for version in sorted(self._stored.get((name, day), ()))
        ]
        return any(found)

    def bundle(self, digest: str) -> bool:
        """Whether the model of a bundle was."""
        about = read_bundle(self._bundles, digest).about
        return self._any_of(about["inputs"] or {})

    def _uses(self, asset: str, partition: str, version: str) -> bool:
        place = (asset, partition, version)
        if (asset, partition) == self._wanted:
            self.versions.add(version)
            return True
        if place not in self._known:
            record = self._workspace.lake.record(*place) if asset in self._workspace.project.assets else None
            self._known[place] = self._any_of((record or {}).get("inputs", {}))
        return self._known[place]

    def _any_of(self, inputs: Mapping[str, Mapping[str, str]]) -> bool:
        found = [
            self._uses(name, key, version)
            for name, versions in inputs.items()
            if name in self._related
            for key, version in versions.items()
        ]
        return any(found)
