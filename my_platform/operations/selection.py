"""Which partitions a run may change."""

from collections.abc import Callable, Collection
from datetime import date

from my_platform.errors import PlatformError
from my_platform.incremental.declare import EPOCH, Grain
from my_platform.incremental.planner import Node
from my_platform.operations.platform import Project


def allow(
    names: Collection[str] | None, project: Project, first: date | None = None, through: date | None = None
) -> Callable[[Node, int], bool] | None:
    """A test for partitions by asset and day; None where everything may change.

    Raises:
        PlatformError: a name is none of the project's assets.
    """
    if names is None and first is None and through is None:
        return None
    unknown = sorted(set(names or ()) - set(project.assets))
    if unknown:
        raise PlatformError(
            f"{', '.join(unknown)} is no asset; there are {', '.join(sorted(project.assets))}"
        )
    low = first.toordinal() - EPOCH if first else None
    high = through.toordinal() - EPOCH if through else None

    def allowed(node: Node, key: int) -> bool:
        if names is not None and node.name not in names:
            return False
        if node.grain is Grain.ONCE:
            return True
        return (low is None or key >= low) and (high is None or key <= high)

    return allowed
