"""Online state in Redis, for services that share it: every write is one MULTI, and may be sent again.

Under the prefix stand `events:SET:ENTITY` (a hash of place to content and partition), `times:SET` (places by
second), `partition:SET:NAME` (places of a partition), `versions:SET`, `rows`, `row_times` and `forgotten`.
A place is the JSON text of [entity, second, order].
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from my_platform.features.online import Event, Key
from my_platform.serving.store import (
    SCHEMA_VERSION,
    EntityEvent,
    Partition,
    Remembered,
    StoreError,
    encoded,
)

PREFIX = "my_platform:state:"
_RETRIES = 5
# So many removals stand in one command.
_AT_ONCE = 5_000


class RedisStore:
    """A `StateStore` behind a URL such as redis://localhost:6379/0.

    A broken connection is made again, with up to five tries. How durable a write is, is Redis' own setting.

    Raises:
        StoreError: nothing answers there, or the state is of a newer version of the platform.
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
            self._server.setnx(self._name("schema"), SCHEMA_VERSION)
            version = int(self._server.get(self._name("schema")) or 0)
        except redis.exceptions.RedisError as error:
            self._server.close()
            raise StoreError(f"online state in Redis: {error}; start it or correct its URL") from error
        if version > SCHEMA_VERSION:
            self._server.close()
            raise StoreError(
                f"online state in Redis: it is of schema {version}, and this platform knows {SCHEMA_VERSION}; use the "
                f"newer platform, or another prefix and bootstrap again"
            )

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

    def row(self, key: Key) -> Mapping[str, Any] | None:
        found = self._server.hget(self._name("rows"), encoded(key))
        return json.loads(found) if found is not None else None

    def replace(self, partitions: Iterable[Partition], rows: Iterable[Remembered] = ()) -> None:
        with self._server.pipeline(transaction=True) as commands:
            for partition in partitions:
                self._replace(commands, partition)
            for row in rows:
                commands.hset(self._name("rows"), encoded(row.key), encoded(row.content))
                commands.zadd(self._name("row_times"), {encoded(row.key): row.second})
            commands.execute()

    def versions(self, feature_set: str) -> Mapping[str, str]:
        return dict(self._server.hgetall(self._name("versions", feature_set)))

    def forget(self, before: Mapping[str, int], rows_before: int) -> None:
        with self._server.pipeline(transaction=True) as commands:
            for feature_set, second in before.items():
                known = self.forgotten(feature_set)
                places = self._server.zrangebyscore(self._name("times", feature_set), "-inf", f"({second}")
                self._remove(commands, feature_set, places)
                commands.hset(self._name("forgotten"), feature_set, max(second, known or second))
            keys = self._server.zrangebyscore(self._name("row_times"), "-inf", f"({rows_before}")
            for first in range(0, len(keys), _AT_ONCE):
                commands.hdel(self._name("rows"), *keys[first : first + _AT_ONCE])
                commands.zrem(self._name("row_times"), *keys[first : first + _AT_ONCE])
            commands.execute()

    def forgotten(self, feature_set: str) -> int | None:
        found = self._server.hget(self._name("forgotten"), feature_set)
        return int(found) if found is not None else None

    def close(self) -> None:
        self._server.close()

    def _replace(self, commands: Any, partition: Partition) -> None:
        feature_set, places_of = (
            partition.feature_set,
            self._name("partition", partition.feature_set, partition.name),
        )
        self._remove(commands, feature_set, sorted(self._server.smembers(places_of)))
        commands.delete(places_of)
        by_entity: dict[Key, dict[str, str]] = {}
        times: dict[str, float] = {}
        for entity, event in partition.events:
            place = encoded([entity, event.second, event.order])
            by_entity.setdefault(entity, {})[place] = encoded([event.values, partition.name])
            times[place] = event.second
        for entity, contents in by_entity.items():
            commands.hset(self._name("events", feature_set, encoded(entity)), mapping=contents)
        if times:
            commands.zadd(self._name("times", feature_set), times)
            commands.sadd(places_of, *times)
        commands.hset(self._name("versions", feature_set), partition.name, partition.version)

    def _remove(self, commands: Any, feature_set: str, places: list[str]) -> None:
        by_entity: dict[str, list[str]] = {}
        for place in places:
            by_entity.setdefault(encoded(json.loads(place)[0]), []).append(place)
        for entity, own in by_entity.items():
            commands.hdel(self._name("events", feature_set, entity), *own)
        for first in range(0, len(places), _AT_ONCE):
            commands.zrem(self._name("times", feature_set), *places[first : first + _AT_ONCE])

    def _name(self, *parts: str) -> str:
        return self._prefix + ":".join(parts)
