"""What of the fraud models may be searched, and which parameters count: a search's, or the declared ones."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from my_platform.domains.fraud import parameters
from my_platform.domains.fraud.features import FEATURES
from my_platform.learning.fitting import fit_lightgbm, load_lightgbm
from my_platform.learning.search_space import Parameters, Range, Space, Tuning
from my_platform.learning.watching import Watch
from my_platform.settings import Settings
from my_platform.storage.bucket import Patience
from my_platform.storage.choices import Choice, Choices
from my_platform.storage.places import open_place

ROUNDS = "rounds"
LIGHTGBM_SPACE: Space = {
    "learning_rate": Range(0.02, 0.2, log=True),
    "num_leaves": Range(7, 63, log=True),
    "min_data_in_leaf": Range(20, 400, log=True),
    "feature_fraction": Range(0.2, 1.0),
    "lambda_l2": Range(0.1, 100.0, log=True),
    ROUNDS: Range(50, 400, log=True),
}
Predict = Callable[[pl.DataFrame], NDArray[np.float64]]


def lightgbm_choice(settings: Settings) -> Choice | None:
    """The choice of a finished search, where one counts."""
    return Choices(open_place(settings.landing, Patience.of(settings))).present("fraud_lightgbm")


def lightgbm_parameters(settings: Settings, choice: Choice | None) -> dict[str, Any]:
    """The parameters that count, the number of trees among them as `rounds`.

    The settings may ask for fewer or more trees than were chosen.
    """
    declared: Mapping[str, float | int] = {
        **parameters.LIGHTGBM_PARAMETERS,
        ROUNDS: parameters.BOOSTING_ROUNDS,
    }
    found = dict(choice.parameters) if choice else dict(declared)
    if settings.boosting_rounds:
        found[ROUNDS] = settings.boosting_rounds
    return found


def lightgbm_tuning(settings: Settings, choice: Choice | None) -> Tuning:
    """The search for LightGBM's parameters, around those that count.

    Where the settings ask for a number of trees, it is that one.
    """
    present = lightgbm_parameters(settings, choice)
    space = dict(LIGHTGBM_SPACE)
    if settings.boosting_rounds:
        space[ROUNDS] = Range(settings.boosting_rounds, settings.boosting_rounds)
    threads = settings.threads

    def fit(rows: pl.DataFrame, chosen: Parameters, seed: int) -> Predict:
        return fit_chosen_lightgbm(rows, chosen, seed, threads)

    return Tuning(space, present, "training_set", fit)


def fit_chosen_lightgbm(rows: pl.DataFrame, chosen: Parameters, seed: int, threads: int) -> Predict:
    """LightGBM fitted on rows of a training set: the probability of fraud as a function of the features.

    Raises Refused where the fit diverges with what was chosen.
    """
    of_trees = {name: value for name, value in chosen.items() if name != ROUNDS}
    features, labels = rows.select(FEATURES), rows["IS_FRAUD"].to_numpy()
    watch = Watch(features, labels, seed)
    text = fit_lightgbm(features, labels, of_trees, int(chosen[ROUNDS]), seed, threads, watch)
    return load_lightgbm(text, threads)
