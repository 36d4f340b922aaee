"""Operating thresholds: what each score would have people look at, and the policies that choose one of them.

A policy is chosen by people and outlives the champion; what score it means is worked out anew for each bundle, from
the operating curve that the bundle carries. A cluster counts once a day, with its highest score; what is looked at
is taken for caught, with all positive rows of the cluster on that day.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from my_platform.errors import PlatformError
from my_platform.learning.stored import under_present_names

_MOST_POINTS = 400


@dataclass(frozen=True)
class Point:
    """Clusters with this score or a higher one, all days together; `positives` of them are, worth `positive_cents`."""

    score: float
    clusters: int
    positives: int
    positive_cents: int


@dataclass(frozen=True)
class OperatingCurve:
    """What was looked at and caught, had each score been the threshold in the tested weeks.

    Attributes:
        days: on which rows were tested.
        amounts: whether the amounts of the rows are known; without them nothing is worth anything.
        points: by falling score and rising number of clusters; the last one counts them all.
    """

    days: int
    amounts: bool
    points: Sequence[Point]

    def as_json(self) -> dict[str, Any]:
        """The curve as it stands in a bundle."""
        points = [[p.score, p.clusters, p.positives, p.positive_cents] for p in self.points]
        return {"days": self.days, "amounts": self.amounts, "points": points}

    @classmethod
    def of_json(cls, stored: Mapping[str, Any]) -> "OperatingCurve":
        """The curve that ``as_json`` gave, of an earlier version too, which stored the totals of the last point again."""
        return cls(stored["days"], stored["amounts"], [Point(*point) for point in stored["points"]])

    def at(self, score: float) -> Point:
        """The last point whose score is not below another one: no more is looked at than there, but for a few."""
        nothing = Point(math.inf, 0, 0, 0)
        return next((point for point in reversed(self.points) if point.score >= score), nothing)


def operating_curve(tested: Sequence[pl.DataFrame]) -> OperatingCurve | None:
    """The curve of tested weeks; None where there is no row.

    Args:
        tested: day, cluster, score, label, and amount where that is known; scores of models that were not fitted on the
            rows.
    """
    rows = pl.concat(tested) if tested else pl.DataFrame()
    if rows.is_empty():
        return None
    amounts = "amount" in rows.columns
    worth = (pl.col("amount") * 100).round().cast(pl.Int64) if amounts else pl.lit(0, pl.Int64)
    clusters = (
        rows.with_columns(cents=pl.when("label").then(worth).otherwise(0))
        .group_by("day", "cluster")
        .agg(pl.col("score").max(), pl.col("label").any(), pl.col("cents").sum())
        .sort("score", descending=True)
    )
    scores = clusters["score"].to_numpy()
    ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))
    positives, cents = clusters["label"].cum_sum().to_numpy(), clusters["cents"].cum_sum().to_numpy()
    # By rising numbers of clusters, each larger than the last by the same share.
    wanted = np.geomspace(1, len(scores), _MOST_POINTS)
    chosen = np.unique(np.minimum(np.searchsorted(ends + 1, wanted), len(ends) - 1))
    points = [
        Point(float(scores[at]), int(at) + 1, int(positives[at]), int(cents[at])) for at in ends[chosen]
    ]
    return OperatingCurve(rows["day"].n_unique(), amounts, points)


@dataclass(frozen=True)
class ByBundle:
    """The threshold that each bundle comes with."""


@dataclass(frozen=True)
class ByChecks:
    """As many clusters as can be checked in a day, on average."""

    checks_a_day: float


@dataclass(frozen=True)
class ByCost:
    """What costs least: each check, and each miss, of which a share of its amount is lost too.

    All in units of the rows' amounts; a miss is a cluster with positive rows on a day.
    """

    check: float
    miss: float
    share_of_amount: float = 0.0


@dataclass(frozen=True)
class ByScore:
    """This score, whatever the bundle."""

    score: float


Policy = ByBundle | ByChecks | ByCost | ByScore
_POLICIES: Mapping[str, type[Policy]] = {
    "bundle": ByBundle,
    "checks": ByChecks,
    "cost": ByCost,
    "score": ByScore,
}
_NAMES = {kind: name for name, kind in _POLICIES.items()}


def policy_json(policy: Policy) -> dict[str, Any]:
    """A policy as it stands in its ledger."""
    return {"by": _NAMES[type(policy)], **asdict(policy)}


def policy_of_json(stored: Mapping[str, Any]) -> Policy:
    """The policy that ``policy_json`` gave; raises PlatformError where it is none, or has a value that cannot be."""
    form = {name: kind.__annotations__ for name, kind in _POLICIES.items()}
    by = str(stored.get("by"))
    kind, names = _POLICIES.get(by), form.get(by, {})
    values = under_present_names({name: value for name, value in stored.items() if name != "by"}, names)
    if kind is None or not set(values) <= set(names):
        told = "; ".join(f"{name}: {', '.join(fields) or 'nothing'}" for name, fields in form.items())
        raise PlatformError(f"{stored!r} is no policy of the operating threshold; there are {told}")
    try:
        policy = kind(**{name: float(value) for name, value in values.items()})
    except (TypeError, ValueError) as error:
        raise PlatformError(f"{stored!r} is no policy of the operating threshold: {error}") from error
    check_policy(policy)
    return policy


def check_policy(policy: Policy) -> None:
    """Raise PlatformError where a policy can choose nothing sensible."""
    match policy:
        case ByChecks(checks_a_day) if not 0 < checks_a_day < math.inf:
            wrong = f"{checks_a_day:g} checks a day; expected a number above 0"
        case ByScore(score) if not 0 <= score <= 1:
            wrong = f"a score of {score:g}; expected a probability from 0 to 1"
        case ByCost(check, miss, share) if not (
            0 < check < math.inf and 0 <= miss < math.inf and 0 <= share < math.inf and miss + share > 0
        ):
            wrong = (
                f"a check costs {check:g} and a miss {miss:g} and {share:g} of its amount; expected a cost of a check "
                "above 0, and one of a miss"
            )
        case _:
            return
    raise PlatformError(wrong)


@dataclass(frozen=True)
class Resolved:
    """The score that a policy means for a bundle.

    Attributes:
        score: rows from here on are flagged; infinite where none is.
        note: why it is another score than the policy asks for; empty where it is not.
    """

    score: float
    note: str = ""


def curve_of(about: Mapping[str, Any]) -> OperatingCurve | None:
    """The operating curve of a bundle, by what the bundle says of itself; None where it carries none."""
    stored = about.get("operating_curve")
    return None if stored is None else OperatingCurve.of_json(stored)


def resolve(policy: Policy, about: Mapping[str, Any]) -> Resolved:
    """The score that a policy means for a bundle, by what the bundle says of itself."""
    own = about["operating_threshold"]["score"]
    of_bundle = math.inf if own is None else float(own)
    curve = curve_of(about)
    match policy:
        case ByBundle():
            return Resolved(of_bundle)
        case ByScore(score):
            return Resolved(score)
    if curve is None:
        return Resolved(
            of_bundle,
            "the bundle carries no operating curve, as no week had tested it or an earlier version made it; its own "
            "threshold counts",
        )
    match policy:
        case ByChecks(checks_a_day):
            fitting = [point for point in curve.points if point.clusters <= checks_a_day * curve.days]
            if fitting:
                return Resolved(fitting[-1].score)
            top = curve.points[0]
            return Resolved(
                top.score,
                f"the highest score alone takes {top.clusters / curve.days:,.1f} checks a day; it counts",
            )
        case ByCost(share_of_amount=share) if share > 0 and not curve.amounts:
            return Resolved(
                of_bundle,
                "the bundle's operating curve knows no amounts, and the policy asks for them; its own threshold counts",
            )
        case ByCost():
            nothing = Point(math.inf, 0, 0, 0)
            return Resolved(min((nothing, *curve.points), key=lambda point: cost(policy, curve, point)).score)


def cost(policy: ByCost, curve: OperatingCurve, point: Point) -> float:
    """What looking at the clusters of a point costs in a day, with what is missed there."""
    every = curve.points[-1]
    missed, missed_cents = every.positives - point.positives, every.positive_cents - point.positive_cents
    lost = missed * policy.miss + missed_cents / 100 * policy.share_of_amount
    return (point.clusters * policy.check + lost) / curve.days
