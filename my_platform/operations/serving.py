"""Serving from a home: the online state bootstrapped from its partitions and kept with them, and the service over it."""

from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta

from my_platform.errors import PlatformError
from my_platform.features.declaration import SECONDS_PER_DAY
from my_platform.features.online import OnlineFeatures
from my_platform.operations.heads import DagsterHeads
from my_platform.operations.home import load_services
from my_platform.operations.platform import Workspace
from my_platform.serving.declaration import Service
from my_platform.serving.state import OnlineState, ValidatedDay
from my_platform.serving.store import StateStore
from my_platform.serving.write_behind import WriteBehind
from my_platform.settings import Settings
from my_platform.storage.lake import ABSENT


def service_of(settings: Settings, use: str | None) -> Service:
    """The declared service of a use, or the only one.

    Raises:
        PlatformError: there is none, or it has to be said which.
    """
    declared = {service.use: service for service in load_services(settings)}
    if use is None and len(declared) == 1:
        (use,) = declared
    if use is None or use not in declared:
        told = ", ".join(declared) or "none: give the domain a function `services(settings)`"
        raise PlatformError(f"say which use to serve; there are {told}")
    return declared[use]


class Partitions:
    """The partitions that an online state is made of, as far back as the longest window reaches.

    Args:
        forms: the feature sets of the state.
    """

    def __init__(
        self,
        forms: Sequence[OnlineFeatures],
        workspace: Workspace,
        heads: DagsterHeads,
        state: OnlineState,
        store: StateStore,
    ) -> None:
        self._workspace, self._heads, self._state, self._store = workspace, heads, state, store
        self._forms = forms
        self._tables = list(dict.fromkeys(form.feature_set.events for form in forms))
        reach_s = max(form.reach_s + form.lateness_s for form in forms)
        self._days = -(-reach_s // SECONDS_PER_DAY) + 1

    def take_in(self) -> int:
        """Take all partitions in that the state has not, or has in another version; how many events they have."""
        return sum(
            self._state.bootstrap(table, days, complete_from=start) for table, days, start in self.owed()
        )

    def later(self) -> Callable[[], int] | None:
        """Read what is owed, in whatever thread; what takes it in, for the one that scores. None where nothing is."""
        owed = self.owed()
        if not owed:
            return None
        return lambda: sum(
            self._state.bootstrap(table, days, complete_from=start) for table, days, start in owed
        )

    def owed(self) -> list[tuple[str, list[ValidatedDay], int | None]]:
        """By table: the days to take in, and the second before which nothing is kept, if anything was before it."""
        heads = self._heads.read(self._tables)
        current = {
            table: {key: version for key, version in found.items() if version != ABSENT}
            for table, found in heads.items()
        }
        # Labels may have landed of days whose rows have not.
        last = min((max(found) for found in current.values() if found), default="")
        if not last:
            return []
        first = (date.fromisoformat(last) - timedelta(days=self._days)).isoformat()
        owed = []
        for table in self._tables:
            known = self._versions(table)
            days = [
                ValidatedDay(key, version, self._workspace.lake.read(table, key, version))
                for key, version in sorted(current[table].items())
                if key >= first and known.get(key) != version
            ]
            begins = int(datetime.fromisoformat(f"{first}T00:00:00+00:00").timestamp())
            if days:
                earlier = any(key < first for key in (*current[table], *known))
                owed.append((table, days, begins if earlier else None))
        return owed

    def _versions(self, table: str) -> dict[str, str]:
        """The versions that all feature sets of a table's events have taken in."""
        found = [
            self._store.versions(form.feature_set.name)
            for form in self._forms
            if form.feature_set.events == table
        ]
        return {
            key: version for key, version in found[0].items() if all(f.get(key) == version for f in found)
        }


def serving_state(
    settings: Settings, service: Service, forms: Sequence[OnlineFeatures]
) -> tuple[OnlineState, WriteBehind]:
    """The online state of a service, in the home or in Redis, and its store; raises StoreError."""
    store: StateStore
    power = settings.serve_durability == "power"
    if settings.serve_redis_url is not None:
        from my_platform.serving.redis_store import PREFIX, RedisStore

        store = RedisStore(settings.serve_redis_url, prefix=f"{PREFIX}{service.use}:")
    else:
        from my_platform.serving.sqlite_store import SqliteStore

        store = SqliteStore(
            settings.serving / service.use / "state.sqlite", synchronous="full" if power else "normal"
        )
    behind = WriteBehind(store)
    return OnlineState(forms, behind), behind
