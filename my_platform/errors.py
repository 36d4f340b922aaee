"""The platform's own errors. Each says what was expected, what was found, and what to do."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from my_platform.incremental.checks import CheckResult


class PlatformError(Exception):
    """Base of all errors that the platform raises on purpose; its text is meant for the user."""


class Refused(PlatformError):
    """The inputs or the code of a partition cannot give a value, and will not when tried again.

    A refusal is recorded for the fingerprint it was met with. It is reported on every refresh and is not
    run again until an input, the code or a parameter changes, or ``refresh --retry`` asks for it.

    Args:
        checks: how the value that was turned away answered the checks of its asset.
        rows: the rows for which it was refused, a polars DataFrame; they are kept for people to look at.
        metadata: what else the UI shows of it.
    """

    def __init__(
        self,
        message: str,
        checks: Sequence["CheckResult"] = (),
        *,
        rows: Any = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.checks = tuple(checks)
        self.rows = rows
        self.metadata = dict(metadata or {})


class MemoryLimitError(PlatformError):
    """Work does not fit into the memory that the settings allow; its text says how much would do."""


class DamagedObject(PlatformError):
    """A stored object is missing or its bytes are not those that were written."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(
            f"{path}: {reason}. Run `my-platform refresh`: the partition is computed again from its inputs."
        )
        self.path = path
        self.reason = reason


class StorageUnavailable(Exception):
    """A bucket does not answer, or answers only that it cannot, and was waited for as long as the settings say.

    No PlatformError: it says nothing of what is stored, so that nobody may take it for an answer.

    Args:
        path: the whole name of what was asked for.
        done: what was to become of it, such as ``read``.
        seconds: for which it was tried.
        said: the client's last words.
        about: asset and partition that needed it, where they are known.
    """

    def __init__(self, path: str, done: str, seconds: float, said: str, about: str = "") -> None:
        super().__init__(
            f"{about}{': ' if about else ''}{path} could not be {done} within {seconds:.0f} s: {said}. See whether the "
            "store and the network to it are well (`my-platform doctor`), and run the same again: what was committed "
            "stays, and only the rest is computed. How long is waited says MY_PLATFORM_BUCKET_PATIENCE_S"
        )
        self.parts = (path, done, seconds, said)

    def needed_by(self, about: str) -> "StorageUnavailable":
        """The same, with the asset and partition that needed it."""
        return StorageUnavailable(*self.parts, about)


class DamagedBundle(PlatformError):
    """A file of a promoted bundle is missing or is not what was promoted."""

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(
            f"{path}: {reason}. Promote the model again (`my-platform promote NAME@WEEK`): that writes its bundle "
            "anew."
        )
        self.path = path
        self.reason = reason


class HomeError(PlatformError):
    """The home folder cannot be used as it is."""


class SourceError(PlatformError):
    """Files cannot be landed or read as asked; says what was expected, what was found and what to do."""
