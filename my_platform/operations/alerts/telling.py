"""A look for alerts, and delivering what there is to say: what a receiver does not take waits for the next look.

One process looks and sends at a time. What is to be sent is written down before it is sent, and taken off when the
receiver has it: a process that is killed loses nothing, and says at most that again which it was just sending.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from my_platform.errors import HomeError, PlatformError
from my_platform.operations.alerts.channels import Channel, NotDelivered
from my_platform.operations.alerts.conditions import Alert, cannot_look, conditions, moments
from my_platform.operations.alerts.facts import Seen
from my_platform.operations.alerts.said import (
    Notice,
    State,
    not_sent,
    owed_to,
    read_state,
    say,
    sent,
    write_state,
)
from my_platform.storage.objects import locked

_FIRST_WAIT_S, _MOST_WAIT_S = 30.0, 3_600.0
_TRIES = 2
_BETWEEN_TRIES_S = 0.5

Look = Callable[[Mapping[str, object], float], Seen]
"""Reads what is known now: takes the cursors of the last look and the time in seconds since 1970."""


@dataclass(frozen=True)
class Told:
    """What came of a look.

    Attributes:
        open: the alerts that last, with the time since which they do, in seconds since 1970.
        notices: what there was to say.
        delivered: notices that a receiver took, by receiver.
        failed: why a receiver did not take what it is owed, by receiver; `waiting` counts the notices.
    """

    open: Sequence[tuple[Alert, float]]
    notices: Sequence[Notice]
    delivered: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    waiting: int = 0


class Teller:
    """Says the alerts of a home.

    Args:
        folder: where the state of what was said lies.
        repeat_s: see ``said.say``.
        pause: waits between two tries; given by tests.
    """

    def __init__(
        self,
        folder: Path,
        channels: Sequence[Channel],
        *,
        repeat_s: float,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._folder, self._path = folder, folder / "state.json"
        self._channels = channels
        self._repeat_s = repeat_s
        self._pause = pause

    def preview(self, look: Look, now_s: float) -> Told:
        """What would be said now. Nothing is sent or written down."""
        state, notices = self._looked(read_state(self._path), look, now_s)
        return _told(state, notices, {}, _troubles(state))

    def tell(self, look: Look, now_s: float, *, at_once: bool = False) -> Told:
        """Look, and send what there is to say to those that are owed it.

        Args:
            at_once: also to receivers that could not be reached a moment ago.
        """
        with self._alone():
            state, notices = self._looked(read_state(self._path), look, now_s)
            write_state(self._path, state)
            delivered: dict[str, int] = {}
            for channel in self._channels:
                owed = owed_to(state, channel.name)
                trouble = state.troubles.get(channel.name)
                if not owed or (trouble is not None and trouble.again_s > now_s and not at_once):
                    continue
                try:
                    self._send(channel, owed)
                except NotDelivered as error:
                    waits = {"first_s": _FIRST_WAIT_S, "most_s": _MOST_WAIT_S}
                    state = not_sent(state, channel.name, str(error), now_s, **waits)
                else:
                    delivered[channel.name] = len(owed)
                    state = sent(state, channel.name, owed)
                write_state(self._path, state)
            return _told(state, notices, delivered, _troubles(state))

    def _looked(self, before: State | None, look: Look, now_s: float) -> tuple[State, list[Notice]]:
        state = before or State()
        cursors = state.cursors
        try:
            seen = look(cursors, now_s)
        except PlatformError as error:
            # What was seen last is taken to last until it can be seen that it does not.
            lasting = [*(each.alert for each in state.open.values()), cannot_look(str(error))]
            happened = []
        else:
            lasting, happened, cursors = conditions(seen.known), moments(seen.known), seen.cursors
        state, notices = say(
            state,
            lasting,
            happened,
            now_s,
            repeat_s=self._repeat_s,
            receivers={channel.name: channel.least for channel in self._channels},
        )
        return replace(state, cursors=cursors), notices

    def _send(self, channel: Channel, notices: Sequence[Notice]) -> None:
        for left in reversed(range(_TRIES)):
            try:
                channel.send(notices)
                return
            except NotDelivered:
                if not left:
                    raise
                self._pause(_BETWEEN_TRIES_S)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            with locked(self._folder / "tell.lock"):
                yield
        except OSError as error:
            raise HomeError(
                f"{self._folder} cannot be used: {error.strerror} ({error.filename}). Give the user of this process the "
                "right to write there; until then nothing is told"
            ) from error


def _troubles(state: State) -> dict[str, str]:
    owed = {name for each in state.pending for name in each.receivers}
    return {name: trouble.said for name, trouble in sorted(state.troubles.items()) if name in owed}


def _told(
    state: State, notices: Sequence[Notice], delivered: Mapping[str, int], failed: Mapping[str, str]
) -> Told:
    lasting = [(each.alert, each.since_s) for each in state.open.values()]
    return Told(lasting, notices, delivered, failed, len(state.pending))
