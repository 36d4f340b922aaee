"""JSON that an earlier version stored, under the names that its values have now."""

from collections.abc import Collection, Mapping
from typing import Any


def under_present_names(stored: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Stored values by these names: the one that has no such name was called otherwise, and is the one that lacks.

    Earlier versions called positives, clusters and misses by the words of the first domain, one such name an object.
    """
    other, lacking = stored.keys() - set(names), set(names) - stored.keys()
    if len(other) != 1 or len(lacking) != 1:
        return dict(stored)
    (was,), (now,) = other, lacking
    return {now if name == was else name: value for name, value in stored.items()}
