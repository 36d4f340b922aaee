"""What a home and the place it goes to keep of a move, so that one that was cut off is known again."""

import json
import uuid
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from my_platform.errors import PlatformError

NAME = "move.json"
STARTED, FINISHED = "started", "finished"


@dataclass(frozen=True)
class Note:
    """What the home and the target keep of a move: whose it is, and how far."""

    id: str
    home: str
    target: str
    state: str
    at: str

    @classmethod
    def read(cls, data: bytes, where: str) -> "Note":
        """A note from its bytes; raises PlatformError where they are none."""
        try:
            return cls(**json.loads(data))
        except (ValueError, TypeError) as error:
            raise PlatformError(
                f"{where} is not what `my-platform move` wrote: {error}; put it back"
            ) from error

    @property
    def finished(self) -> bool:
        return self.state == FINISHED

    @property
    def data(self) -> bytes:
        return json.dumps(asdict(self), indent=1).encode() + b"\n"

    def ended(self) -> "Note":
        """The note of a move that is done, now."""
        return replace(self, state=FINISHED, at=_now())


def begun(home: str, target: str) -> Note:
    """The note of a move that begins now."""
    return Note(uuid.uuid4().hex, home, target, STARTED, _now())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
