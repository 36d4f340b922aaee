"""The weekly tests that tell of a recipe: which are usable for a model, and their scored rows.

A model serves the week from T0 on, and no test of its own is known by then. What is known are the tests of its
recipe: the weeks up to T0 − 14, each scored by the model that the recipe gave for that week. Weeks that the recipe's
parameters were chosen by are left out.
"""

from collections.abc import Mapping
from datetime import date

import polars as pl

from my_platform.errors import DamagedBundle
from my_platform.learning.bundle import read_bundle
from my_platform.learning.contender import Contender, recipe_of
from my_platform.learning.evidence import CHAMPION
from my_platform.learning.ledger import Served
from my_platform.learning.registry import Registry
from my_platform.learning.retraining.facts import LABELS_KNOWN_AFTER
from my_platform.operations.outcome import Heads
from my_platform.operations.platform import Workspace
from my_platform.storage.lake import ABSENT

Tests = Mapping[str, str]
"""Data version of the predictions by week."""


class WeeklyTests:
    """What is current of models and their tests, as it was when it was first asked for."""

    def __init__(self, workspace: Workspace, heads: Heads) -> None:
        self.lake = workspace.lake
        self.project = workspace.project
        self._heads = heads
        self._current: dict[str, dict[str, str]] = {}

    def current(self, asset: str) -> Mapping[str, str]:
        """The data versions of an asset by week."""
        if asset not in self._current:
            heads = self._heads.read([asset]).get(asset, {})
            self._current[asset] = {key: version for key, version in heads.items() if version != ABSENT}
        return self._current[asset]

    def recipe(self, model: str) -> str:
        """What a model is made by now."""
        return recipe_of(self.project.code_of(model))

    def of_recipe(self, contender: Contender, before: str | None = None) -> Tests:
        """The tests of a contender's recipe as it is now.

        Args:
            before: a model's week, for whose sake only tests whose labels were known then count.
        """
        last = date.fromisoformat(before) - LABELS_KNOWN_AFTER if before else date.max
        models, tested = self.current(contender.model), self.current(contender.test_set)
        return {
            week: version
            for week, version in self.current(contender.predictions).items()
            if date.fromisoformat(week) <= last
            and week in tested
            and week not in contender.chosen_on
            and self._by_present_code(contender.model, week, models.get(week, ABSENT))
        }

    def of_champion(
        self, champion: Served, contenders: Mapping[str, Contender], registry: Registry, before: str
    ) -> tuple[str, Tests]:
        """The asset of the champion's predictions, and the tests of its recipe.

        Where its code has moved on since, those are the ones that it was promoted on.
        """
        contender = contenders.get(champion.model)
        if contender is not None and self.recipe(champion.model) == champion.recipe:
            return contender.predictions, self.of_recipe(contender, before)
        try:
            about = read_bundle(registry.bundles, champion.bundle).about
        except DamagedBundle:
            return "", {}
        return about["predictions"], about["tested"]

    def rows(self, contender: Contender, week: str, predictions: str) -> pl.DataFrame:
        """The scored test rows of a week by key: key, day, cluster, score, label, slices, and amount where it is declared.

        Raises:
            DamagedObject: a stored value is not whole.
        """
        columns = contender.columns
        amount = {"amount": columns.amount} if columns.amount else {}
        wanted = (
            columns.key,
            columns.time,
            columns.cluster,
            columns.label,
            *columns.slices,
            *amount.values(),
        )
        tested = self.lake.read(
            contender.test_set, week, self.current(contender.test_set)[week], list(dict.fromkeys(wanted))
        )
        scores = self.lake.read(contender.predictions, week, predictions, [columns.key, columns.score])
        return (
            tested.join(scores, on=columns.key, how="inner")
            .sort(columns.key)
            .select(
                *columns.slices,
                key=columns.key,
                day=pl.col(columns.time).dt.date(),
                cluster=columns.cluster,
                score=columns.score,
                label=columns.label,
                **amount,
            )
        )

    def paired(
        self, contender: Contender, week: str, predictions: str, other: str, others_predictions: str
    ) -> pl.DataFrame:
        """The same rows with the scores of another model beside them, as far as both scored them."""
        columns = contender.columns
        scores = self.lake.read(other, week, others_predictions, [columns.key, columns.score])
        named = scores.select(pl.col(columns.key).alias("key"), pl.col(columns.score).alias(CHAMPION))
        return self.rows(contender, week, predictions).join(named, on="key", how="inner").sort("key")

    def unscored(self, contender: Contender, week: str) -> pl.DataFrame:
        """Cluster and label of the test rows of a week, in the order of `features`; raises DamagedObject."""
        columns, version = contender.columns, self.current(contender.test_set)[week]
        rows = self.lake.read(contender.test_set, week, version, [columns.cluster, columns.label])
        return rows.select(cluster=columns.cluster, label=columns.label)

    def features(self, contender: Contender, week: str) -> pl.DataFrame:
        """The features of the test rows of a week; raises DamagedObject."""
        version = self.current(contender.test_set)[week]
        return self.lake.read(contender.test_set, week, version, contender.columns.features)

    def _by_present_code(self, model: str, week: str, version: str) -> bool:
        """Whether a model was made by the code that it has now; after a partial refresh, it may not be."""
        code = self.project.code_versions[model]
        traces = (self.lake.index.trace(model, week, f) for f in self.lake.index.find(model, week, version))
        return any(trace is not None and trace.code_version == code for trace in traces)
