"""Ending in an orderly way: a request to end is taken note of, and heeded after the partition under way."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether somebody wants the work of this process to end.

    Args:
        asked: says whether another process has asked for it.
    """

    def __init__(self, asked: Callable[[], bool]) -> None:
        self._asked = asked
        self._noted = False

    def __call__(self) -> bool:
        self._noted = self._noted or self._asked()
        return self._noted

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take note of SIGINT and SIGTERM; the second one ends the process as if nobody had listened.

        Signals reach the main thread alone: elsewhere nothing is listened to.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before: dict[int, Any] = {name: signal.signal(name, self._note) for name in _SIGNALS}
        try:
            yield
        finally:
            for name, handler in before.items():
                signal.signal(name, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self._noted:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._noted = True


def beside(work: Callable[[], T]) -> T:
    """Do work in a thread of its own, so that Dagster, which listens in the main thread only, breaks nothing off."""
    found: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            found.append(work())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="run", daemon=True)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return found[0]
