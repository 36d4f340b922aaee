"""Which errors are of storage or network, and may pass when the same is tried again a little later."""

import errno
import sqlite3
import time
from collections.abc import Callable, Iterator

from my_platform.errors import StorageUnavailable

MOST_TRIES = 4
FIRST_WAIT_S = 0.5
_FACTOR = 4.0
_LOOK_S = 0.1
_ERRNOS = {
    getattr(errno, name)
    for name in (
        *("EAGAIN", "EINTR", "EIO", "EBUSY", "EPIPE", "ENFILE", "EMFILE", "ENOBUFS", "ESTALE", "EREMOTEIO"),
        *("ETIMEDOUT", "ENETDOWN", "ENETUNREACH", "ENETRESET", "EHOSTDOWN", "EHOSTUNREACH"),
    )
    if hasattr(errno, name)
}
# Clients of buckets and databases have types of their own; their modules are not imported for this.
_OF_CLIENTS = {
    ("obstore", "GenericError"),
    ("obstore", "JoinError"),
    ("botocore", "HTTPClientError"),
    ("botocore", "ConnectionError"),
    ("sqlalchemy", "OperationalError"),
    ("sqlalchemy", "InterfaceError"),
    ("sqlalchemy", "TimeoutError"),
    ("psycopg2", "OperationalError"),
    ("psycopg2", "InterfaceError"),
    ("redis", "ConnectionError"),
    ("redis", "TimeoutError"),
    ("requests", "ConnectionError"),
    ("requests", "Timeout"),
}
_LOCKED = ("locked", "busy")
_STATUSES = {408, 409, 429, 500, 502, 503, 504}
_OF_DATABASES = {"sqlalchemy", "psycopg2"}


def is_infrastructure(error: BaseException) -> bool:
    """Whether an error, or one that it was raised from, is of storage or network.

    A missing file, a right that is missing, a full disk and whatever a function makes of its inputs are not:
    they come again.
    """
    return any(_passes(each) for each in _chain(error))


def in_words(error: BaseException) -> str:
    """What to tell a person of an error of storage or network that has ended what he asked for."""
    gone = next((each for each in _chain(error) if isinstance(each, StorageUnavailable)), None)
    if gone is not None:
        return str(gone)
    of_database = any(type(each).__module__.partition(".")[0] in _OF_DATABASES for each in _chain(error))
    where = "the database" if of_database else "storage or network"
    said = str(list(_chain(error))[-1]).strip().partition("\n")[0]
    return (
        f"{where} does not answer: {said}. See whether it is well (`my-platform doctor`), and run the same again: what "
        "was committed stays, and only the rest is computed"
    )


def was_waited_for(error: BaseException) -> bool:
    """Whether an error says that a bucket was waited for, for as long as the settings say: to try again is for later."""
    return any(isinstance(each, StorageUnavailable) for each in _chain(error))


def wait_before(attempt: int, stop: Callable[[], bool] = lambda: False) -> None:
    """Wait before an attempt; the second one comes soon, each later one four times later."""
    ends = time.monotonic() + wait_s(attempt)
    while (left := ends - time.monotonic()) > 0 and not stop():
        time.sleep(min(left, _LOOK_S))


def wait_s(attempt: int) -> float:
    """Seconds to wait before an attempt, of which the first is number 1."""
    return FIRST_WAIT_S * _FACTOR ** (attempt - 2)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__


def _passes(error: BaseException) -> bool:
    if isinstance(error, ConnectionError | TimeoutError | StorageUnavailable):
        return True
    if isinstance(error, sqlite3.OperationalError):
        return any(word in str(error) for word in _LOCKED)
    if isinstance(error, OSError) and error.errno in _ERRNOS:
        return True
    if _status(error) in _STATUSES:
        return True
    below = getattr(error, "orig", None)
    if isinstance(below, sqlite3.Error):
        return _passes(below)
    names = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(error).__mro__}
    return bool(names & _OF_CLIENTS)


def _status(error: BaseException) -> int | None:
    """What a bucket has answered to boto3, which is the client of Dagster's logs and of MLflow's artifacts."""
    answer = getattr(error, "response", None)
    about = answer.get("ResponseMetadata") if isinstance(answer, dict) else None
    status = about.get("HTTPStatusCode") if isinstance(about, dict) else None
    return status if isinstance(status, int) else None
