"""Days that are due and have not landed.

That a day is missing is no value of anything: it is read off what has landed and off the clock, is never hashed,
and is told within a run as a failed check of the raw table.
"""

import time

from my_platform.incremental.checks import CheckResult
from my_platform.incremental.declare import Grain, day_key
from my_platform.operations.platform import Workspace
from my_platform.quality.freshness import last_due_day, missing_days
from my_platform.quality.tables import FRESHNESS
from my_platform.storage.calendar import calendar_in

# A table that has stopped is told as late for a month, and not for ever.
_MOST_LATE_DAYS = 31


def missing(workspace: Workspace, now_s: float | None = None) -> dict[str, list[str]]:
    """By raw table: the days since its first one that should have landed, and had not at the last look.

    Of a data set that has ended no day is due after the table's last one.

    Args:
        now_s: seconds since 1970; the clock's where it is not given.
    """
    now_s = time.time() if now_s is None else now_s
    found = {}
    for asset in workspace.project.assets.values():
        if asset.due_h is None or asset.source is None or asset.grain is not Grain.DAY:
            continue
        landed = workspace.landed[asset.source].digests.keys()
        if not landed:
            continue
        last = max(landed)
        late = min(last + _MOST_LATE_DAYS, last_due_day(now_s, asset.due_h))
        if late > last and not _has_ended(workspace):
            last = late
        days = missing_days(landed, min(landed), last)
        if days:
            found[asset.name] = [day_key(day) for day in days]
    return found


def told_missing(asset: str, partition: str) -> CheckResult:
    """The answer of a day that did not land."""
    return CheckResult(
        FRESHNESS, False, {}, f"{asset} {partition}: the day did not land by the hour it is due"
    )


def _has_ended(workspace: Workspace) -> bool:
    calendar = calendar_in(workspace.landing.place)
    return calendar is not None and calendar.last is not None
