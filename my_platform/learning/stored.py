"""JSON that an earlier version stored, under the names that its values have now.

The one file that knows by which words of the first domain these were called.
"""

from collections.abc import Collection, Mapping
from typing import Any

_FORMER = {
    "positives": "frauds",
    "miss": "missed_fraud",
    "checks_a_day": "cards_a_day",
    "looked_at_a_day": "cards_a_day",
    "precision_at_100": "card_precision_at_100",
}


def under_present_names(stored: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Stored values, those of these names that lack taken from their former ones; all others as they are."""
    present = {_FORMER[name]: name for name in names if name in _FORMER and name not in stored}
    return {present.get(name, name): value for name, value in stored.items()}
