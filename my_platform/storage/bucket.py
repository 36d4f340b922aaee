"""A bucket as a client that is patient with it: what may pass is tried again, later each time, for so long and no longer.

The client underneath tries answers of 5xx and 429 again, and what was cut off where a repetition changes nothing. Left to
this module are conditional writes and removals whose reply was lost, listings that were cut off, conflicts, and outages.
"""

import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from my_platform.errors import StorageUnavailable
from my_platform.settings import Settings, allows_http
from my_platform.storage.traffic import Traffic

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import RetryConfig, S3Store

# Objects that a bucket tells of in one request.
PAGE = 1_000
FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 5.0
_CONNECT_S = 10
_LONGEST_REQUEST_S = 3_600
# Answers that come again however often one asks, such as one about a name or a right. A 400 may also say that the server
# has waited too long for the bytes.
_FOR_GOOD = re.compile(r"builder error|status code: (30\d|4(?!0[89]|12|29)\d\d)")
_TOO_SLOW = "RequestTimeout"

_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Patience:
    """How long a bucket is waited for.

    Attributes:
        total_s: seconds for which a request is tried again; then the bucket counts as gone.
        silence_s: seconds in which it has to answer a request, or go on with its answer.
    """

    total_s: float = 120.0
    silence_s: float = 30.0

    @classmethod
    def of(cls, settings: Settings) -> "Patience":
        """What the settings say."""
        return cls(settings.bucket_patience_s, settings.bucket_silence_s)

    @property
    def _for_client(self) -> "RetryConfig":
        # One at once, which also takes up an answer where it broke off; the others are made here.
        return {
            "max_retries": 1,
            "retry_timeout": timedelta(seconds=self.total_s),
            "backoff": {
                "init_backoff": timedelta(seconds=FIRST_WAIT_S),
                "max_backoff": timedelta(seconds=LONGEST_WAIT_S),
                "base": 2,
            },
        }

    def open(self, url: str) -> "S3Store":
        """The client of ``s3://bucket/prefix``; credentials and endpoint come from the ``AWS_…`` environment."""
        from obstore.store import S3Store

        return S3Store.from_url(
            url,
            retry_config=self._for_client,
            client_options={
                "allow_http": allows_http(),
                "connect_timeout": timedelta(seconds=min(_CONNECT_S, self.silence_s)),
                "read_timeout": timedelta(seconds=self.silence_s),
                "timeout": timedelta(seconds=_LONGEST_REQUEST_S),
            },
        )


class Bucket:
    """Objects below ``s3://bucket/prefix``, by relative path. Safe for threads.

    Every method raises StorageUnavailable where the bucket is gone for longer than its patience lasts.
    """

    def __init__(self, client: "S3Store", url: str, patience: Patience) -> None:
        self.client = client
        self.root = url.rstrip("/")
        self.patience = patience
        self.traffic = Traffic()
        # Seconds for which it was waited for in vain, since it last answered.
        self._waited_s = 0.0

    def get(self, path: str) -> bytes:
        """The bytes of an object; raises FileNotFoundError."""
        return self.get_known(path)[0]

    def get_known(self, path: str) -> "tuple[bytes, ObjectMeta]":
        """The bytes of an object, and what is known of it; raises FileNotFoundError."""
        import obstore

        def got() -> "tuple[bytes, ObjectMeta]":
            answer = obstore.get(self.client, path)
            return bytes(answer.bytes()), answer.meta

        self.traffic.count(get=1)
        data, known = self._tried("read", path, got)
        self.traffic.count(bytes_read=len(data))
        return data, known

    def head(self, path: str) -> "ObjectMeta | None":
        """What is known of an object; None where there is none."""
        import obstore

        self.traffic.count(head=1)
        try:
            return self._tried("looked up", path, lambda: obstore.head(self.client, path))
        except FileNotFoundError:
            return None

    def put(self, path: str, data: bytes) -> str:
        """Write an object whatever lies there; its ETag."""
        import obstore

        self.traffic.count(put=1, bytes_written=len(data))
        done = self._tried("written", path, lambda: obstore.put(self.client, path, data, use_multipart=False))
        return str(done["e_tag"])

    def put_new(self, path: str, data: bytes) -> bool:
        """Write an object if its name is free (``If-None-Match: *``).

        False where something lies there: what another has written, or what this call has, if its reply was lost.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        def attempt() -> bool:
            try:
                obstore.put(self.client, path, data, mode="create", use_multipart=False)
            except (AlreadyExistsError, PreconditionError):
                # Also what a store says to one of two who write at once, while the other may still fail.
                if self.head(path) is None:
                    raise
                return False
            return True

        self.traffic.count(put=1, bytes_written=len(data))
        return self._tried("written", path, attempt)

    def delete(self, path: str) -> None:
        """Remove an object; one that is not there is no error."""
        import obstore

        self.traffic.count(delete=1)
        try:
            self._tried("removed", path, lambda: obstore.delete(self.client, path))
        except FileNotFoundError:
            return

    def list(self, prefix: str) -> "list[ObjectMeta]":
        """The objects whose path begins so, in no order; raises what obstore does at names that are no paths to it."""
        import obstore

        def attempt() -> "list[ObjectMeta]":
            listed = obstore.list(self.client, prefix or None, chunk_size=PAGE)
            return [entry for page in listed for entry in page]

        found = self._tried("listed", prefix, attempt)
        self.traffic.count(list=pages(len(found)))
        return found

    def _tried(self, done: str, path: str, attempt: Callable[[], _Answer]) -> _Answer:
        started = time.monotonic()
        # Until it answers again, nobody else waits as long.
        patience_s = 0.0 if self._waited_s else self.patience.total_s
        wait_s = FIRST_WAIT_S
        while True:
            try:
                answer = attempt()
            except Exception as error:
                if not may_pass(error):
                    raise
                spent_s = time.monotonic() - started
                if spent_s + wait_s > patience_s:
                    self._waited_s = max(spent_s, self._waited_s)
                    name = f"{self.root}/{path}"
                    raise StorageUnavailable(name, done, self._waited_s, _in_short(error)) from error
            else:
                self._waited_s = 0.0
                return answer
            # Many that were turned away at once do not come back at once.
            time.sleep(wait_s * random.uniform(0.5, 1.0))
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)


def open_bucket(url: str, patience: Patience | None = None) -> Bucket:
    """The bucket at ``s3://bucket/prefix``."""
    patience = patience or Patience()
    return Bucket(patience.open(url), url, patience)


def may_pass(error: Exception) -> bool:
    """Whether an error of the client may be gone when the same is asked again a little later."""
    from obstore.exceptions import AlreadyExistsError, GenericError, JoinError, PreconditionError

    if isinstance(error, AlreadyExistsError | PreconditionError | JoinError):
        return True
    text = str(error)
    return isinstance(error, GenericError) and (not _FOR_GOOD.search(text) or _TOO_SLOW in text)


def pages(objects: int) -> int:
    """Requests that it takes to list so many objects."""
    return max(1, -(-objects // PAGE))


def _in_short(error: Exception) -> str:
    """The first line of what a client says; it goes on for fifty."""
    return str(error).strip().partition("\n")[0]
