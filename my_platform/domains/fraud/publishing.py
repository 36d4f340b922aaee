"""What the models of this domain are for."""

from collections.abc import Callable, Mapping
from typing import Any

from my_platform.incremental.declare import Publication
from my_platform.learning import publishing
from my_platform.learning.registry import Registry

USE = "fraud"
INTENDED = (
    "Scores each card transaction with the probability that it is fraud, for a team that checks the most "
    "suspicious cards of a day. Made for the days from its week on; not made to decline payments by itself, nor "
    "for transactions of other sources."
)


def model_publisher(registry: Registry) -> Callable[[Publication], Mapping[str, Any]]:
    """Logs a model to MLflow once, with what it was fitted on, and registers it as a candidate."""
    return publishing.model_publisher(registry, USE, INTENDED)
