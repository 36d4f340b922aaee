"""A model asset that may become champion: what a domain declares of it."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from my_platform.features.online import OnlineFeatures
from my_platform.learning.budgets import Budget, Load
from my_platform.learning.detection import AVERAGE_PRECISION
from my_platform.learning.gate import Policy
from my_platform.learning.measure import Measure
from my_platform.learning.retraining.policy import Retraining
from my_platform.learning.search_space import Tuning
from my_platform.learning.summary import Summary, summary
from my_platform.learning.words import WORDS, Words


@dataclass(frozen=True)
class TestColumns:
    """How the columns of test sets and predictions are named.

    Attributes:
        key: identifies a row in both.
        time: when the row happened.
        cluster: what hangs together, such as the rows of one customer.
        label: what the model tells: whether it is what is looked for, or a number.
        score: its probability or forecast, in the predictions.
        amount: what the row is worth; empty where rows are worth nothing that is known.
        slices: columns of the test set whose values are looked at by themselves.
        features: columns of the test set that a model scores, in order.
    """

    key: str
    time: str
    cluster: str
    label: str
    score: str = "score"
    amount: str = ""
    slices: tuple[str, ...] = ()
    features: tuple[str, ...] = ()


@dataclass(frozen=True)
class Contender:
    """A weekly model asset and what it is judged by.

    Attributes:
        use: what it is for; one champion serves it, of whichever model asset.
        model: the asset of the model: a table of files.
        predictions, evaluation: the assets that say what it scored, and how well.
        test_set: the asset of the test rows, which all models of one use share.
        load: makes of its files a function that scores features.
        export: the asset of the same model as ONNX, which is what serves; empty where its own files serve.
        looked_at: rows with the highest score that can be looked at each day; sets the operating threshold, where the
            measure has one.
        measure: the figure that it is judged by.
        words: what people call what its operating threshold has looked at.
        summary: makes of the figures of a week, as its evaluation keeps them, what the command line shows.
        tuning: how its parameters can be searched.
        rows: the landed table of the rows that it scores.
        consistency: daily assets whose failed checks on the last days stand in the way of any candidate, such as
            one that holds served features against the offline ones.
        online: makes the online form of its feature sets, by which a service looks its features up.
        chosen_on: the weeks whose tests its parameters were chosen by, which therefore do not tell how good it is.
        retraining: when it is fitted again; None for every week, as soon as what it reads is there.
        reproduced_within: by how much its measure may differ when it is built again, where a device may give other last
            digits; None where the same bytes have to come out.
    """

    use: str
    model: str
    predictions: str
    evaluation: str
    test_set: str
    columns: TestColumns
    load: Load
    budget: Budget
    policy: Policy
    looked_at: int = 0
    measure: Measure = AVERAGE_PRECISION
    words: Words = WORDS
    summary: Callable[[Mapping[str, Any]], Summary] = summary
    tuning: Tuning | None = None
    chosen_on: tuple[str, ...] = ()
    export: str = ""
    rows: str = ""
    consistency: tuple[str, ...] = ()
    online: Callable[[], tuple[OnlineFeatures, ...]] | None = None
    retraining: Retraining | None = None
    reproduced_within: float | None = None

    @property
    def assets(self) -> tuple[str, ...]:
        """The assets that tell of it."""
        exported = (self.export,) if self.export else ()
        return self.model, self.predictions, self.evaluation, self.test_set, *exported


def recipe_of(code: Mapping[str, str]) -> str:
    """What a model is made by, without the data: the code versions, parameters included, of it and its inputs."""
    return hashlib.sha256(json.dumps(sorted(code.items())).encode()).hexdigest()[:16]
