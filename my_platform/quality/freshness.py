"""Freshness: which days of a daily table should be there and are not."""

from collections.abc import Collection

WEEK = 7
# The rhythm of a table is told by as many weeks.
_RHYTHM_WEEKS = 4


def missing_days(landed: Collection[int], first: int, last: int) -> list[int]:
    """The days from one to another, both included, that are missing, as day numbers.

    A day is not missing where its weekday never landed in the four weeks before it, as far as there are any:
    some tables have no Sundays.

    Args:
        landed: the days that are there, of four weeks before the first one too.
    """
    start = min(landed, default=first)
    found = []
    for day in range(max(first, start), last + 1):
        if day in landed:
            continue
        weeks_before = [
            day - WEEK * week for week in range(1, _RHYTHM_WEEKS + 1) if day - WEEK * week >= start
        ]
        if not weeks_before or any(before in landed for before in weeks_before):
            found.append(day)
    return found


def last_due_day(now_s: float, due_h: int) -> int:
    """The last day that should have landed by a moment in seconds since 1970, if each may take so many hours."""
    return int((now_s - due_h * 3600) // 86_400) - 1
