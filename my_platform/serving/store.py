"""What a store of online state holds and promises, whichever database is behind it.

Events by feature set and entity, rows remembered by their id, and which version of which partition was taken
in. Values travel as JSON, which keeps integers, floats, truth values and texts as they are.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from pydantic_core import to_json

from my_platform.errors import PlatformError
from my_platform.features.online import Event, Key

# Counted up when what is stored changes its form.
SCHEMA_VERSION = 1


class StoreError(PlatformError):
    """A store that cannot be used as it is; the message says what to do."""


class EntityEvent(NamedTuple):
    """An event and whose it is."""

    feature_set: str
    entity: Key
    event: Event


class Remembered(NamedTuple):
    """A row kept for later: its id, its second, and its columns or whatever else is to be had again."""

    key: Key
    second: int
    content: Mapping[str, Any]


class Partition(NamedTuple):
    """A version of a partition of events, as one feature set takes it in."""

    feature_set: str
    name: str
    version: str
    events: Iterable[tuple[Key, Event]]


class StateStore(Protocol):
    """Durable state. Each method that writes is one transaction, and done when it returns.

    One thread may read while another writes; each reads what was written before.
    """

    def append(self, events: Iterable[EntityEvent], rows: Iterable[Remembered] = ()) -> None:
        """Add events and rows; one that is there already, by (second, order) or by id, stays as it is."""

    def events(self, feature_set: str, entity: Key) -> list[Event]:
        """The events of an entity in (second, order)."""

    def row(self, key: Key) -> Mapping[str, Any] | None:
        """What was remembered under an id."""

    def rows(self, keys: Sequence[Key]) -> Mapping[Key, Mapping[str, Any]]:
        """What was remembered under each of several ids; those that are not known are left out."""

    def replace(self, partitions: Iterable[Partition], rows: Iterable[Remembered] = ()) -> None:
        """Let these be the events of their partitions.

        What an earlier version of a partition brought and the new one does not is removed; an event that was
        appended and comes again in a partition becomes the partition's; other appended events stay.
        """

    def remove(self, events: Iterable[EntityEvent]) -> None:
        """Take events out, by (second, order), however they came."""

    def versions(self, feature_set: str) -> Mapping[str, str]:
        """The version of each partition that was taken in."""

    def forget(self, before: Mapping[str, int], rows_before: int) -> None:
        """Remove the events of each feature set before its second, and rows before theirs."""

    def forgotten(self, feature_set: str) -> int | None:
        """The second before which events were forgotten, or never known; None where all are there."""

    def close(self) -> None:
        """Let go of the database."""


def encoded(value: Any) -> str:
    """JSON, by an encoder several times faster than Python's; both write a float's shortest exact form."""
    return to_json(value, inf_nan_mode="constants").decode()
