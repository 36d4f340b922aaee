"""Which runs go first where more are queued than may run: scoring, then what keeps the home current, then backfills."""

from collections.abc import Iterable

from my_platform.operations.platform import Project

PRIORITY_TAG = "dagster/priority"
SCORING_PRIORITY = 20
CURRENT_PRIORITY = 10
# What a person starts in the UI has 0.
BACKFILL_PRIORITY = -10


def priority_of(project: Project, assets: Iterable[str]) -> int:
    """The priority of a run that keeps assets current; higher where predictions are among them."""
    scoring = {contender.predictions for contender in project.contenders}
    return SCORING_PRIORITY if scoring & set(assets) else CURRENT_PRIORITY
