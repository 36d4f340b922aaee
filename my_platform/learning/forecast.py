"""Forecasts of a number, declared: what is told of which rows, from which features, and when it becomes known.

From a `Forecast` come the weekly assets that any domain has (`forecast_assets`): a training set that is guarded and
replayed without the future, boosted trees, what they say of the week, the rows that test them, and an evaluation with its
report.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from my_platform.errors import PlatformError
from my_platform.features.declaration import FeatureSet
from my_platform.incremental.declare import Asset
from my_platform.learning.budgets import Budget
from my_platform.learning.contender import Contender, TestColumns
from my_platform.learning.fitting import load_lightgbm
from my_platform.learning.gate import Policy
from my_platform.learning.regression import ABSOLUTE_ERROR
from my_platform.learning.retraining.policy import Retraining

KNOWN_AT = "KNOWN_AT"
MOST_DELAY_DAYS = 7


@dataclass(frozen=True)
class Forecast:
    """What a domain declares of a number that it forecasts.

    Attributes:
        use: what it is for; the names of its assets begin with it.
        rows: the daily asset of the rows that a forecast is made for.
        labels: the daily asset of what became known on a day; may be the rows themselves.
        features: the feature sets of the rows, each with its asset.
        key, time, cluster: columns of the rows: what identifies one, when it happens, and what hangs together.
        value: the column of the labels that is forecast.
        known_at: the column of the labels that says when it became known; empty where it is `delay_days` after the
            row's time, to the second.
        naive: the feature that is the forecast to beat, such as the value of a week ago.
        slices: columns of the rows whose values are looked at by themselves.
        unit: of the value.
        delay_days: whole days after which the value of a row is known.
        window_days: days that a model is fitted on.
        rounds, seed, lightgbm: of LightGBM.
        chosen_on: the weeks whose tests the parameters were chosen by.
        owners: of its assets.
        landed: the landed table of the rows.
    """

    use: str
    rows: Asset
    labels: Asset
    features: Sequence[tuple[FeatureSet, Asset]]
    key: str
    time: str
    cluster: str
    value: str
    naive: str
    unit: str
    known_at: str = ""
    slices: tuple[str, ...] = ()
    delay_days: int = 1
    window_days: int = 28
    rounds: int = 100
    seed: int = 1
    lightgbm: Mapping[str, Any] | None = None
    chosen_on: tuple[str, ...] = ()
    owners: tuple[str, ...] = ("team:data",)
    landed: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.delay_days <= MOST_DELAY_DAYS:
            raise PlatformError(
                f"the forecast of {self.use} knows values {self.delay_days} days later; expected 1 to {MOST_DELAY_DAYS}, as "
                "the gate looks at tests that ended a week before a model's own"
            )
        for declared, _ in self.features:
            if told := self._told_too_early(declared):
                raise PlatformError(
                    f"the forecast of {self.use}: {declared.name} {told} before it is known, which is {self.delay_days} "
                    "whole days after the row"
                )

    def _told_too_early(self, declared: FeatureSet) -> str:
        """How a feature set reads values of the labels that are not known yet, which no replay sees; empty if it does not.

        A replay leaves out what became known too late where another table's column tells when that was.
        """
        if self.labels.name == declared.rows:
            for name, expression in declared.columns.items():
                roots = set(expression.meta.root_names()) - declared.aggregates.keys()
                if self.value in _read(declared.derive, roots):
                    return f"has the column {name}, which reads {self.value} of its own row"
        if self.labels.name == declared.events and (declared.own_events or not self.known_at):
            for name, aggregate in declared.aggregates.items():
                columns = {aggregate.column, *(condition.column for condition in aggregate.where)} - {None}
                early = aggregate.delay_days < self.delay_days
                if early and self.value in _read(declared.event_derive, columns):
                    return f"has the aggregate {name}, which reads {self.value} with a delay_days of {aggregate.delay_days},"
        return ""

    @property
    def columns(self) -> tuple[str, ...]:
        """The features, in the order in which a model takes them."""
        return tuple(name for declared, _ in self.features for name in declared.columns)

    @property
    def model(self) -> str:
        return f"{self.use}_lightgbm"

    @property
    def predictions(self) -> str:
        return f"{self.use}_predictions"

    @property
    def test_set(self) -> str:
        return f"{self.use}_test_set"

    @property
    def training_set(self) -> str:
        return f"{self.use}_training_set"

    @property
    def evaluation(self) -> str:
        return f"{self.use}_evaluation"

    @property
    def plain(self) -> dict[str, Any]:
        """What the weekly functions need to know, as plain values that count in a fingerprint."""
        names = ("key", "time", "cluster", "value", "naive", "unit", "delay_days", "window_days")
        return {
            **{name: getattr(self, name) for name in names},
            "known_at": self.known_at or KNOWN_AT,
            "known_by_delay": not self.known_at,
            "features": list(self.columns),
            "slices": list(self.slices),
        }


def _read(derived: Mapping[str, pl.Expr], names: Iterable[Any]) -> set[str]:
    """The columns of a table that these, some of them derived, are read from."""
    return {
        root for name in names for root in (derived[name].meta.root_names() if name in derived else [name])
    }


def load_forecast(files: Mapping[str, bytes]) -> Callable[[pl.DataFrame], Any]:
    """The fitted trees as a function from the features to the forecast."""
    return load_lightgbm(files["model.txt"].decode())


def forecast_contender(
    forecast: Forecast, *, budget: Budget, policy: Policy, retraining: Retraining | None = None
) -> Contender:
    """The model of a forecast as one that may become champion, and what is asked of it."""
    return Contender(
        use=forecast.use,
        model=forecast.model,
        predictions=forecast.predictions,
        evaluation=forecast.evaluation,
        test_set=forecast.test_set,
        columns=TestColumns(
            key=forecast.key,
            time=forecast.time,
            cluster=forecast.cluster,
            label=forecast.value,
            slices=forecast.slices,
            features=forecast.columns,
        ),
        load=load_forecast,
        budget=budget,
        policy=policy,
        measure=ABSOLUTE_ERROR,
        chosen_on=forecast.chosen_on,
        rows=forecast.landed,
        retraining=retraining,
    )
