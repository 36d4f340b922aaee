"""What has been said and to whom it is still to be said. The rule is pure; the state of a home lies in one file.

An alert is said when it begins, again after some hours while it lasts or at once when it gets worse, and when it ends; a
moment is said once. What is said waits in the state for each receiver until that one has it.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from my_platform.operations.alerts.conditions import SEVERITIES, Alert, Severity
from my_platform.storage.objects import replace_file

What = Literal["began", "still", "ended", "happened"]
# A moment that is seen again within as long is the same, such as the next attempt at what failed.
_SAME_MOMENT_S = 86_400.0


@dataclass(frozen=True)
class Notice:
    """One thing that is said of an alert. Times in seconds since 1970."""

    what: What
    at_s: float
    since_s: float
    alert: Alert

    @property
    def id(self) -> str:
        """The same notice has the same one, whoever makes it and however often it is sent."""
        text = json.dumps([self.what, self.alert.key, self.at_s])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def as_json(self) -> dict[str, Any]:
        """The notice as the log and a webhook have it."""
        return {
            "id": self.id,
            "what": self.what,
            "at": iso(self.at_s),
            "since": iso(self.since_s),
            **asdict(self.alert),
        }


@dataclass(frozen=True)
class Open:
    """An alert that lasts: since when, and when it was said last."""

    alert: Alert
    since_s: float
    said_s: float


@dataclass(frozen=True)
class Pending:
    """A notice, and the receivers that do not have it yet."""

    notice: Notice
    receivers: tuple[str, ...]


@dataclass(frozen=True)
class Trouble:
    """A receiver that could not be reached: how often in a row, and when it is tried again."""

    times: int
    again_s: float
    said: str


@dataclass(frozen=True)
class State:
    """What a home has said.

    Attributes:
        open: alerts that last, by key.
        happened: when a moment was said, by key.
        pending: what is still to be sent, the earliest first.
        troubles: by receiver.
        cursors: how far the sources have been read; see ``facts``.
    """

    open: Mapping[str, Open] = field(default_factory=dict)
    happened: Mapping[str, float] = field(default_factory=dict)
    pending: Sequence[Pending] = ()
    troubles: Mapping[str, Trouble] = field(default_factory=dict)
    cursors: Mapping[str, Any] = field(default_factory=dict)


def say(
    state: State,
    lasting: Iterable[Alert],
    happened: Iterable[Alert],
    now_s: float,
    *,
    repeat_s: float,
    receivers: Mapping[str, Severity],
) -> tuple[State, list[Notice]]:
    """What there is to say now, and the state in which it is kept for its receivers.

    Args:
        repeat_s: after which an alert that lasts is said again; 0 for never.
        receivers: those that are to have it, by name, and the least severe that each wants.
    """
    holding = {alert.key: alert for alert in lasting}
    notices: list[Notice] = []
    opened: dict[str, Open] = {}
    for key, alert in holding.items():
        before = state.open.get(key)
        if before is None:
            opened[key] = Open(alert, now_s, now_s)
            notices.append(Notice("began", now_s, now_s, alert))
        elif _worse(alert, before.alert) or (repeat_s and now_s - before.said_s >= repeat_s):
            opened[key] = Open(alert, before.since_s, now_s)
            notices.append(Notice("still", now_s, before.since_s, alert))
        else:
            # Who was told of it when it was worse is told when it ends.
            opened[key] = replace(before, alert=replace(alert, severity=before.alert.severity))
    notices += [
        Notice("ended", now_s, before.since_s, before.alert)
        for key, before in state.open.items()
        if key not in holding
    ]
    told = {key: at_s for key, at_s in state.happened.items() if now_s - at_s < _SAME_MOMENT_S}
    for alert in happened:
        if alert.key not in told:
            told[alert.key] = now_s
            notices.append(Notice("happened", now_s, now_s, alert))
    pending = [*state.pending, *(Pending(notice, _wanting(notice.alert, receivers)) for notice in notices)]
    kept = [left for each in pending if (left := _limited(each, receivers)).receivers]
    return replace(state, open=opened, happened=told, pending=kept), notices


def owed_to(state: State, receiver: str) -> list[Notice]:
    """What a receiver does not have yet, the earliest first."""
    return [each.notice for each in state.pending if receiver in each.receivers]


def sent(state: State, receiver: str, notices: Sequence[Notice]) -> State:
    """The state once a receiver has notices."""
    ids = {notice.id for notice in notices}
    pending = [
        replace(each, receivers=tuple(name for name in each.receivers if name != receiver))
        if each.notice.id in ids
        else each
        for each in state.pending
    ]
    troubles = {name: trouble for name, trouble in state.troubles.items() if name != receiver}
    return replace(state, pending=[each for each in pending if each.receivers], troubles=troubles)


def not_sent(state: State, receiver: str, said: str, now_s: float, *, first_s: float, most_s: float) -> State:
    """The state once a receiver could not be reached: it is tried again after twice as long as the last time."""
    before = state.troubles.get(receiver)
    times = before.times + 1 if before else 1
    wait_s = min(most_s, first_s * 2 ** min(times - 1, 30))
    return replace(state, troubles={**state.troubles, receiver: Trouble(times, now_s + wait_s, said)})


def read_state(path: Path) -> State | None:
    """The state of a home; None where there is none, or what is there is no state: all is said anew then."""
    try:
        stored = json.loads(path.read_bytes())
        return State(
            {key: Open(Alert(**o["alert"]), o["since_s"], o["said_s"]) for key, o in stored["open"].items()},
            stored["happened"],
            [_pending(each) for each in stored["pending"]],
            {name: Trouble(**trouble) for name, trouble in stored["troubles"].items()},
            stored["cursors"],
        )
    except (FileNotFoundError, ValueError, TypeError, LookupError, AttributeError):
        return None


def write_state(path: Path, state: State) -> None:
    """Keep the state, whole."""
    replace_file(path, json.dumps(asdict(state), sort_keys=True).encode())


def iso(at_s: float) -> str:
    """A time as it is told: ISO 8601 in UTC."""
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="seconds")


def _pending(stored: Mapping[str, Any]) -> Pending:
    notice = stored["notice"]
    return Pending(Notice(**{**notice, "alert": Alert(**notice["alert"])}), tuple(stored["receivers"]))


def _wanting(alert: Alert, receivers: Mapping[str, Severity]) -> tuple[str, ...]:
    rank = SEVERITIES.index
    return tuple(name for name, least in receivers.items() if rank(alert.severity) >= rank(least))


def _worse(alert: Alert, before: Alert) -> bool:
    return SEVERITIES.index(alert.severity) > SEVERITIES.index(before.severity)


def _limited(pending: Pending, receivers: Mapping[str, Severity]) -> Pending:
    """Without receivers that are none any more."""
    return replace(pending, receivers=tuple(name for name in pending.receivers if name in receivers))
