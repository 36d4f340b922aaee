"""The health of a champion: what is looked at after its promotion, and when it has to go.

- *the matured measure*, such as average precision: a week whose labels have come since, against the weeks that it was
  promoted on. The better end of its 95 % interval must not be worse than their mean by more than a margin;
- *score drift*: the population stability index of its own scores of the latest labelled week, over tenths of those of
  its first week, the first that it was not fitted on;
- *errors* and *latency* of the service, as far as it served enough requests to tell.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import polars as pl

from my_platform.learning.bootstrap import Interval
from my_platform.learning.measure import Measure

_CLASSES = 10


@dataclass(frozen=True)
class Limits:
    """What a champion may do before it is rolled back.

    Attributes:
        precision_drop: by how much a matured week's average precision may be lower, or by which share an error may be
            larger.
        score_index: population stability index of its own scores. Of twelve weeks of simulated data, up to twelve weeks
            after a model's first, the largest was .03.
        error_share: requests that failed by the service's own fault.
        p99_ms: milliseconds within which 99 of 100 requests are answered.
        fewest_requests: fewer tell nothing.
    """

    precision_drop: float = 0.05
    score_index: float = 0.25
    error_share: float = 0.01
    p99_ms: float = 50.0
    fewest_requests: int = 1000


@dataclass(frozen=True)
class InService:
    """What a service says of the bundle that it serves, since it took it up."""

    bundle: str
    requests: int
    errors: int
    p99_ms: float


@dataclass(frozen=True)
class Health:
    """What is known of a champion.

    Attributes:
        promoted_on: the measure's mean over the weeks that it was promoted on; None where there were none.
        matured: the measure of the weeks whose labels came since.
        score_index: of the latest scored week; None where none came after those weeks.
    """

    promoted_on: float | None = None
    matured: Sequence[tuple[str, Interval]] = ()
    score_index: float | None = None
    scored_week: str = ""
    service: InService | None = None
    unreadable: Sequence[str] = field(default_factory=tuple)

    def as_json(self) -> dict[str, Any]:
        return {
            "promoted_on": self.promoted_on,
            "matured": {week: interval.as_json() for week, interval in self.matured},
            "score_index": self.score_index,
            "scored_week": self.scored_week,
            "service": asdict(self.service) if self.service else None,
            "unreadable": list(self.unreadable),
        }


def breaches(health: Health, limits: Limits, measure: Measure) -> list[str]:
    """What is beyond its limit, in words; nothing of a healthy champion."""
    found = []
    if health.promoted_on is not None:
        least = measure.least(health.promoted_on, limits.precision_drop)
        found += [
            f"{measure.name} of week {week} is {interval.value:.4f} (95 %: {interval.low:.4f} to "
            f"{interval.high:.4f}), of the weeks it was promoted on {health.promoted_on:.4f}; a drop of "
            f"{limits.precision_drop:g} is allowed"
            for week, interval in health.matured
            if measure.is_worse(interval, least)
        ]
    if health.score_index is not None and health.score_index > limits.score_index:
        found.append(
            f"the scores of week {health.scored_week} have a stability index of {health.score_index:.3f} against "
            f"those of its first week, limit {limits.score_index:g}"
        )
    service = health.service
    if service is not None and service.requests >= limits.fewest_requests:
        share = service.errors / service.requests
        if share > limits.error_share:
            found.append(
                f"{service.errors:,} of {service.requests:,} requests failed ({share:.2%}), limit {limits.error_share:.2%}"
            )
        if service.p99_ms > limits.p99_ms:
            found.append(f"p99 of a request is {service.p99_ms:.1f} ms, limit {limits.p99_ms:g} ms")
    return found


def score_classes(tested: pl.Series, scored: pl.Series) -> tuple[list[float], list[float]]:
    """The shares of both in classes that are tenths of the tested scores: (scored, tested)."""
    edges = sorted({float(tested.quantile(n / _CLASSES) or 0.0) for n in range(1, _CLASSES)})
    return _shares(scored, edges), _shares(tested, edges)


def _shares(scores: pl.Series, edges: list[float]) -> list[float]:
    up_to = [int((scores <= edge).sum()) / max(scores.len(), 1) for edge in edges]
    return [after - before for before, after in zip([0.0, *up_to], [*up_to, 1.0], strict=True)]
