"""What a process does that computes chunks of a backfill for another process."""

import contextlib
import os
from collections.abc import Mapping, Sequence

from my_platform.errors import PlatformError
from my_platform.operations.backfills import Watch, Work
from my_platform.operations.outcome import Outcome
from my_platform.operations.session import opened
from my_platform.operations.stopping import Stop
from my_platform.settings import Settings
from my_platform.storage.backfill_book import BackfillBook


class BackfillWorker:
    """Loads the definitions of a home once, and computes what it is told of.

    Args:
        environment: the variables of the process that it works for, secrets among them.
    """

    def __init__(self, settings: Settings, environment: Mapping[str, str]) -> None:
        os.environ.update(environment)
        self._open = contextlib.ExitStack()
        self._session = self._open.enter_context(opened(settings))
        self._book = BackfillBook(settings.backfills)

    def ready(self) -> None:
        """Comes back when the definitions are loaded."""

    def compute(self, number: int, places: Sequence[tuple[str, int]]) -> Outcome | str:
        """Compute what is owed of some partitions, in one Dagster run; in words, why the run broke off.

        Args:
            number: of the backfill, by which it can be cancelled.
            places: assets and the planner's numbers of partitions.
        """
        ordered = self._book.backfill(number).ordered
        stop = Stop(lambda: self._book.is_cancelled(number))
        work = Work(self._session, self._book, number, ordered, None, Watch(), stop)
        try:
            return work.run(places)
        except PlatformError as error:
            return str(error)
