"""Decisions of people about rows in quarantine: which of them are let in after all.

They lie beside the landed files, so that landing alone still reproduces a home, as
``decisions/<asset>/<partition>/<id>.json``. Each is a file of its own whose name is the digest of its bytes:
it is written once and never changed, so that two people who decide at once do not undo each other. A
decision is taken back by another one that names it; what counts of a partition is the set of its rows that
are released in the end. So a release that is taken back leaves a partition where it was before.

A row is known by what it says (see ``rows.row_digests``), not by its number: another file that lands for
the day, with the same row elsewhere, finds it released; where the row was corrected, it is not.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from my_platform.errors import PlatformError
from my_platform.incremental.declare import Grain, day_key, ordinal
from my_platform.storage.landing import Landed, content_digest
from my_platform.storage.places import LandingPlace, shown

FOLDER = "decisions"
_WHOLE = "all"


@dataclass(frozen=True)
class DecidedRow:
    """A row that a decision is about: its digest, and how it was told when the decision was made."""

    digest: str
    row_number: int
    reason: str


@dataclass(frozen=True)
class Decision:
    """What a person decided about a partition.

    Attributes:
        what: ``release`` lets rows in; ``undo`` takes earlier decisions back.
        rows: the rows that are released.
        undoes: the ids of the decisions that are taken back.
        reason, by, at: why, who, and when in UTC.
    """

    what: Literal["release", "undo"]
    reason: str
    by: str
    at: str
    rows: tuple[DecidedRow, ...] = ()
    undoes: tuple[str, ...] = ()

    @property
    def data(self) -> bytes:
        return json.dumps(asdict(self), sort_keys=True, indent=1).encode()

    @property
    def id(self) -> str:
        return content_digest(self.data).hex()


@dataclass(frozen=True)
class Decided:
    """The decisions about an asset: as a landed table, and the released rows by partition."""

    landed: Landed = field(default_factory=Landed)
    rows: Mapping[int, frozenset[str]] = field(default_factory=dict)


class Decisions:
    """The decisions that lie in a landing place."""

    def __init__(self, place: LandingPlace) -> None:
        self.place = place

    def scan(self, assets: Mapping[str, Grain]) -> dict[str, Decided]:
        """What is decided about each asset."""
        found: dict[str, dict[int, list[str]]] = {name: {} for name in assets}
        for path in sorted(self.place.below(FOLDER)):
            folder, _, partition = path.rpartition("/")[0].removeprefix(f"{FOLDER}/").rpartition("/")
            key = _key(partition, assets[folder]) if folder in assets else None
            if key is not None and path.endswith(".json"):
                found[folder].setdefault(key, []).append(path)
        return {name: self._decided(partitions) for name, partitions in found.items()}

    def partitions(self, asset: str, grain: Grain) -> list[int]:
        """The partitions of an asset about which anything was decided."""
        names = {path.split("/")[-2] for path in self.place.below(f"{FOLDER}/{asset}")}
        return sorted(key for name in names if (key := _key(name, grain)) is not None)

    def about(self, asset: str, key: int, grain: Grain) -> dict[str, Decision]:
        """The decisions about a partition by id, in the order in which they were made.

        Raises:
            PlatformError: one of them cannot be read.
        """
        folder = f"{FOLDER}/{asset}/{_partition(key, grain)}"
        found = [self._read(path) for path in self.place.below(folder) if path.endswith(".json")]
        return {decision.id: decision for decision in sorted(found, key=lambda d: (d.at, d.id))}

    def add(self, asset: str, key: int, grain: Grain, decision: Decision) -> str:
        """Write a decision down; its path."""
        path = f"{FOLDER}/{asset}/{_partition(key, grain)}/{decision.id}.json"
        self.place.create(path, decision.data)
        if self.is_marked:
            self.place.create(_mark_of(asset), secrets.token_bytes(16))
        return f"{self.place.root}/{path}"

    @property
    def is_marked(self) -> bool:
        """Whether an object tells that a decision was added, so that nobody need list them: it is so in a bucket."""
        return "://" in self.place.root

    def mark(self, asset: str) -> int:
        """What changes with each decision that is added about an asset; 0 before the first one."""
        listed = self.place.stat(_mark_of(asset))
        return listed.mark if listed is not None else 0

    def _decided(self, partitions: Mapping[int, Sequence[str]]) -> Decided:
        digests: dict[int, bytes] = {}
        files: dict[int, tuple[str, ...]] = {}
        blocked: dict[int, str] = {}
        rows: dict[int, frozenset[str]] = {}
        for key, paths in partitions.items():
            try:
                rows[key] = released({d.id: d for d in map(self._read, paths)})
                digest = content_digest("\n".join(sorted(rows[key])).encode())
            except PlatformError as error:
                blocked[key] = str(error)
                digest = content_digest(str(error).encode())
            if key in blocked or rows[key]:
                digests[key], files[key] = digest, tuple(paths)
        return Decided(Landed(digests, files, blocked), rows)

    def _read(self, path: str) -> Decision:
        try:
            data = self.place.read(path)
            said: dict[str, Any] = json.loads(data)
            rows = tuple(DecidedRow(**row) for row in said.pop("rows"))
            decision = Decision(rows=rows, undoes=tuple(said.pop("undoes")), **said)
        except (FileNotFoundError, ValueError, TypeError, LookupError, AttributeError) as error:
            raise _damaged(self.place, path) from error
        if path.rpartition("/")[2] != f"{content_digest(data).hex()}.json" or decision.data != data:
            raise _damaged(self.place, path)
        return decision


def released(decisions: Mapping[str, Decision]) -> frozenset[str]:
    """The digests of the rows that are let in, when all decisions about a partition are taken together."""
    undone = {name for decision in decisions.values() for name in decision.undoes}
    return frozenset(
        row.digest for name, decision in decisions.items() if name not in undone for row in decision.rows
    )


def _mark_of(asset: str) -> str:
    return f"{FOLDER}/{asset}/.changed"


def _damaged(place: LandingPlace, path: str) -> PlatformError:
    return PlatformError(
        f"{shown(f'{place.root}/{path}')} is not a decision as `my-platform release` wrote it; put it back as it "
        "was, or remove it and release the rows again"
    )


def _partition(key: int, grain: Grain) -> str:
    return _WHOLE if grain is Grain.ONCE else day_key(key)


def _key(partition: str, grain: Grain) -> int | None:
    if grain is Grain.ONCE:
        return 0 if partition == _WHOLE else None
    try:
        key = ordinal(partition)
    except PlatformError:
        return None
    return key if partition and day_key(key) == partition else None
