"""Locks of a PostgreSQL server, for processes on several machines: a session holds one, and nothing outlives it.

The server frees the lock when the connection ends, however it ends: at once where the process was killed, and after
half a minute without a sign of life where its machine is gone. Each lock is one of a database, by its name.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from my_platform.errors import PlatformError

if TYPE_CHECKING:
    from sqlalchemy import Connection

# A role may have limits of its own, which would end the wait for one's turn.
_NO_LIMITS = ("statement_timeout", "lock_timeout")
# Seconds until a server asks a silent client for a sign of life, between two such questions, and their number.
_SIGNS_OF_LIFE = {"tcp_keepalives_idle": 10, "tcp_keepalives_interval": 5, "tcp_keepalives_count": 4}


class SessionLock:
    """A lock that a session holds.

    Args:
        connection: what holds it, in autocommit mode.
    """

    def __init__(self, connection: "Connection", name: str) -> None:
        self.connection = connection
        self.name = name
        self.key = key_of(name)

    def check(self) -> None:
        """Raise unless the session lives, and with it the lock; then another process may hold it.

        Raises:
            sqlalchemy.exc.DBAPIError: the connection is gone.
        """
        self.connection.exec_driver_sql("select 1")

    def take(self) -> None:
        """Wait until no other session holds the lock."""
        settings = {**dict.fromkeys(_NO_LIMITS, 0), **_SIGNS_OF_LIFE}
        self.connection.exec_driver_sql(
            "; ".join(f"set {name} = {value}" for name, value in settings.items())
        )
        self.connection.exec_driver_sql("select pg_advisory_lock(%s)", (self.key,))

    def give_back(self) -> None:
        """Free the lock.

        Raises:
            PlatformError: the session does not hold it, so that others may have come in between.
            sqlalchemy.exc.DBAPIError: the connection is gone, and the lock with it.
        """
        if not self.connection.exec_driver_sql("select pg_advisory_unlock(%s)", (self.key,)).scalar():
            raise PlatformError(
                f"the lock {self.name} is not held by the session that took it: something between here and the server "
                "shares sessions out. Let PGHOST and PGPORT name the server itself, or a pooler in session mode"
            )


@contextmanager
def session_locked(connection: "Connection", name: str) -> Iterator[SessionLock]:
    """Held by one session of a database at a time; an error ends the session, which frees the lock as well."""
    # Closed for good at the end, whatever pool it is of.
    connection.detach()
    lock = SessionLock(connection, name)
    lock.take()
    yield lock
    lock.give_back()


def key_of(name: str) -> int:
    """The number of a lock, of 64 bits with a sign, by its name."""
    return int.from_bytes(hashlib.sha256(f"my_platform {name}".encode()).digest()[:8], "big", signed=True)
