"""Online state in Redis, for services that share it: every write is one MULTI, and may be sent again.

Under the prefix stand `events:SET:ENTITY` (a hash of place to content and partition), `times:SET` (places by
second), `partition:SET:NAME` (places of a partition), `versions:SET`, `rows`, `row_times` and `forgotten`.
A place is the JSON text of [entity, second, order].
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from my_platform.features.online import Event, Key
from my_platform.serving.store import (
    SCHEMA_VERSION,
    EntityEvent,
    Partition,
    Remembered,
    StoreError,
    encoded,
)

T = TypeVar("T")

PREFIX = "my_platform:state:"
_RETRIES = 5
# So many values stand in one command.
_AT_ONCE = 5_000


@contextmanager
def _reaching() -> Iterator[None]:
    import redis

    try:
        yield
    except redis.exceptions.RedisError as error:
        raise StoreError(f"online state in Redis: {error}; start it or correct its URL") from error


class RedisStore:
    """A `StateStore` behind a URL such as redis://localhost:6379/0.

    A broken connection is made again, with up to five tries. How durable a write is, is Redis' own setting.

    Raises:
        StoreError: nothing answers there, then or later, or the state is of a newer version of the platform.
    """

    def __init__(self, url: str, *, prefix: str = PREFIX) -> None:
        import redis
        from redis.backoff import ExponentialBackoff
        from redis.retry import Retry

        self._prefix = prefix
        self._server: Any = redis.Redis.from_url(
            url,
            decode_responses=True,
            retry=Retry(ExponentialBackoff(cap=1.0, base=0.05), _RETRIES),
            retry_on_error=[redis.exceptions.ConnectionError, redis.exceptions.TimeoutError],
        )
        try:
            version = self._schema()
        except StoreError:
            self._server.close()
            raise
        if version > SCHEMA_VERSION:
            self._server.close()
            raise StoreError(
                f"online state in Redis: it is of schema {version}, and this platform knows {SCHEMA_VERSION}; use the "
                f"newer platform, or another prefix and bootstrap again"
            )

    @_reaching()
    def _schema(self) -> int:
        self._server.setnx(self._name("schema"), SCHEMA_VERSION)
        return int(self._server.get(self._name("schema")) or 0)

    @_reaching()
    def append(self, events: Iterable[EntityEvent], rows: Iterable[Remembered] = ()) -> None:
        with self._server.pipeline(transaction=True) as commands:
            for feature_set, entity, event in events:
                place = encoded([entity, event.second, event.order])
                content = encoded([event.values, None])
                commands.hsetnx(self._name("events", feature_set, encoded(entity)), place, content)
                commands.zadd(self._name("times", feature_set), {place: event.second})
            for row in rows:
                commands.hsetnx(self._name("rows"), encoded(row.key), encoded(row.content))
                commands.zadd(self._name("row_times"), {encoded(row.key): row.second}, nx=True)
            commands.execute()

    @_reaching()
    def events(self, feature_set: str, entity: Key) -> list[Event]:
        found = self._server.hgetall(self._name("events", feature_set, encoded(entity)))
        texts = ",".join(f"[{place},{content}]" for place, content in found.items())
        return sorted(
            (
                Event(second, order, tuple(values))
                for (_, second, order), (values, _) in json.loads(f"[{texts}]")
            ),
            key=lambda event: event[:2],
        )

    @_reaching()
    def row(self, key: Key) -> Mapping[str, Any] | None:
        found = self._server.hget(self._name("rows"), encoded(key))
        return json.loads(found) if found is not None else None

    @_reaching()
    def rows(self, keys: Sequence[Key]) -> Mapping[Key, Mapping[str, Any]]:
        if not keys:
            return {}
        found = self._server.hmget(self._name("rows"), [encoded(key) for key in keys])
        return {key: json.loads(text) for key, text in zip(keys, found, strict=True) if text is not None}

    @_reaching()
    def replace(self, partitions: Iterable[Partition], rows: Iterable[Remembered] = ()) -> None:
        with self._server.pipeline(transaction=True) as commands:
            contents: dict[str, dict[str, str]] = {}
            times: dict[str, dict[str, int]] = {}
            for partition in partitions:
                self._replace(commands, partition, contents, times.setdefault(partition.feature_set, {}))
            for name, mapping in contents.items():
                commands.hset(name, mapping=mapping)
            for feature_set, seconds in times.items():
                for places in _parts(list(seconds.items())):
                    commands.zadd(self._name("times", feature_set), dict(places))
            for part in _parts([(encoded(row.key), row) for row in rows]):
                commands.hset(self._name("rows"), mapping={key: encoded(row.content) for key, row in part})
                commands.zadd(self._name("row_times"), {key: row.second for key, row in part})
            commands.execute()

    @_reaching()
    def remove(self, events: Iterable[EntityEvent]) -> None:
        with self._server.pipeline(transaction=True) as commands:
            for feature_set, entity, event in events:
                self._remove(commands, feature_set, [encoded([entity, event.second, event.order])])
            commands.execute()

    @_reaching()
    def versions(self, feature_set: str) -> Mapping[str, str]:
        return dict(self._server.hgetall(self._name("versions", feature_set)))

    @_reaching()
    def forget(self, before: Mapping[str, int], rows_before: int) -> None:
        with self._server.pipeline(transaction=True) as commands:
            for feature_set, second in before.items():
                known = self.forgotten(feature_set)
                places = self._server.zrangebyscore(self._name("times", feature_set), "-inf", f"({second}")
                self._remove(commands, feature_set, places)
                commands.hset(self._name("forgotten"), feature_set, max(second, known or second))
            keys = self._server.zrangebyscore(self._name("row_times"), "-inf", f"({rows_before}")
            for part in _parts(keys):
                commands.hdel(self._name("rows"), *part)
                commands.zrem(self._name("row_times"), *part)
            commands.execute()

    @_reaching()
    def forgotten(self, feature_set: str) -> int | None:
        found = self._server.hget(self._name("forgotten"), feature_set)
        return int(found) if found is not None else None

    def close(self) -> None:
        self._server.close()

    def _replace(
        self, commands: Any, partition: Partition, contents: dict[str, dict[str, str]], times: dict[str, int]
    ) -> None:
        """Remove the earlier version; gather what is to be written of the new one."""
        feature_set, name = partition.feature_set, partition.name
        places_of = self._name("partition", feature_set, name)
        self._remove(commands, feature_set, sorted(self._server.smembers(places_of)))
        commands.delete(places_of)
        places = []
        for entity, event in partition.events:
            place = encoded([entity, event.second, event.order])
            events_of = self._name("events", feature_set, encoded(entity))
            contents.setdefault(events_of, {})[place] = encoded([event.values, name])
            times[place] = event.second
            places.append(place)
        for part in _parts(places):
            commands.sadd(places_of, *part)
        commands.hset(self._name("versions", feature_set), name, partition.version)

    def _remove(self, commands: Any, feature_set: str, places: list[str]) -> None:
        by_entity: dict[str, list[str]] = {}
        for place in places:
            by_entity.setdefault(encoded(json.loads(place)[0]), []).append(place)
        for entity, own in by_entity.items():
            commands.hdel(self._name("events", feature_set, entity), *own)
        for part in _parts(places):
            commands.zrem(self._name("times", feature_set), *part)

    def _name(self, *parts: str) -> str:
        return self._prefix + ":".join(parts)


def _parts(values: Sequence[T]) -> Iterator[Sequence[T]]:
    return (values[first : first + _AT_ONCE] for first in range(0, len(values), _AT_ONCE))
