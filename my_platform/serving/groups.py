"""Requests that are in flight together are scored together, when the loop has heard all of them."""

import asyncio
from collections.abc import Callable

from my_platform.serving.scorer import Scorer, Waiting

# Called with what failed, None where nothing did.
Done = Callable[[Exception | None], None]


class Groups:
    """Collects the requests of a turn of the loop for a scorer."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._group: list[tuple[Waiting, Done]] = []

    def join(self, waiting: Waiting, done: Done) -> None:
        """Score a request with the others of this turn; `done` is called when what came of it is logged."""
        self._group.append((waiting, done))
        if len(self._group) == 1:
            # Requests that came in the same turn of the loop are read before this is called.
            asyncio.get_running_loop().call_soon(self._score)

    async def scored(self, waiting: Waiting) -> None:
        """The same for one who waits; raises what failed."""
        scored: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(problem: Exception | None) -> None:
            if scored.cancelled():
                return
            if problem is None:
                scored.set_result(None)
            else:
                scored.set_exception(problem)

        self.join(waiting, done)
        await scored

    def _score(self) -> None:
        group, self._group = self._group, []
        failed: Exception | None = None
        try:
            self._scorer.score([waiting for waiting, _ in group])
        except Exception as error:
            failed = error
        for waiting, done in group:
            done(failed or waiting.failed)
