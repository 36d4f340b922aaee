"""Landed files and the ledger of their content.

Landing is written by source systems and only read here. A daily table is a folder of files named by day, a
table without partitions is one file. What a file says is known by its SHA-256 (its first 16 bytes), never
by its times; a file whose size, time and inode have not moved since it was hashed is not hashed again.

What lies where a file should and is none, or cannot be read, stands for its partition as well: the
partition is refused by name, and its last good version stays. A file that its source is still writing has
not landed yet; until it is done, what it said before counts.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from my_platform.errors import PlatformError, Refused
from my_platform.incremental.declare import Grain, day_key, ordinal
from my_platform.storage.limits import Limits, check_size, too_large, unfinished
from my_platform.storage.places import SUFFIXES, LandingPlace, Listed, Unreadable, is_hostile, shown
from my_platform.storage.trace_index import LandedFile, TraceIndex

# A file that changed this recently may change again without its time moving on: it is hashed every time.
_UNSETTLED_NS = 2_000_000_000
# A file that was replaced while it was hashed is hashed again, this often.
_MOST_TRIES = 3


@dataclass(frozen=True)
class Landed:
    """What has landed of one table.

    Attributes:
        digests, files: by partition.
        blocked: by partition, why what lies there cannot be taken; the digest stands for the reason then.
        misnamed: by path, why a file of a table's format belongs to no partition.
        unusable: by path, why a name cannot be meant well, or a folder cannot be listed.
        unfinished: by path, the seconds after which a file that is still being written is taken as it is.
        ignored: other names, such as `README.md` or `2018-04-01.parquet.part`.
    """

    digests: Mapping[int, bytes] = field(default_factory=dict)
    files: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    blocked: Mapping[int, str] = field(default_factory=dict)
    misnamed: Mapping[str, str] = field(default_factory=dict)
    unusable: Mapping[str, str] = field(default_factory=dict)
    unfinished: Mapping[str, float] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()


class Landing:
    """Landed tables by name, with the ledger of what their files said when they were last read.

    Args:
        limits: the largest file that is taken.
        quiet_s: a file that looks unfinished is taken as it is this long after its last change.
    """

    def __init__(
        self, place: LandingPlace, index: TraceIndex, limits: Limits | None = None, quiet_s: float = 0.0
    ) -> None:
        self.place = place
        self.index = index
        self.limits = limits or Limits()
        self.quiet_ns = int(quiet_s * 1_000_000_000)
        self.hashed = 0
        self.bytes_read = 0

    def scan(self, tables: Mapping[str, Grain], *, verify: bool = False) -> dict[str, Landed]:
        """What has landed of each table.

        Args:
            tables: grain by table name.
            verify: hash every file, also those that have not moved.
        """
        known = self.index.landed()
        looks = {name: _Look(self, name, grain, known, verify) for name, grain in tables.items()}
        fresh = [file for look in looks.values() for file in look.fresh]
        seen = {path for look in looks.values() for path in look.seen}
        gone = [path for path in known if path not in seen and any(_belongs(path, name) for name in tables)]
        if fresh or gone:
            self.index.replace_landed(fresh, gone)
        return {name: look.landed() for name, look in looks.items()}

    def read(self, landed: Landed, key: int) -> list[tuple[str, bytes]] | None:
        """Names and bytes of the files of a partition; None when they no longer say what the digest says.

        Raises:
            Refused: what lies there is no file, cannot be read, or is too large.
        """
        if key in landed.blocked:
            raise Refused(landed.blocked[key])
        contents = []
        for path in landed.files[key]:
            try:
                contents.append((f"{self.place.root}/{path}", self.place.read(path)))
            except FileNotFoundError:
                return None
        self.bytes_read += sum(len(data) for _, data in contents)
        if _together([content_digest(data) for _, data in contents]) != landed.digests[key]:
            return None
        for name, data in contents:
            check_size(name, name, data, self.limits)
        return contents

    def still(self, landed: Landed, key: int) -> bool:
        """Whether the files of a partition have not moved since they were hashed."""
        digests = []
        for path in landed.files[key]:
            listed, before = self.place.stat(path), self.index.landed_file(path)
            if listed is None or before is None or not _same(listed, before):
                return False
            digests.append(bytes.fromhex(before.digest))
        return _together(digests) == landed.digests[key]

    def has(self, name: str, grain: Grain, key: int) -> bool:
        """Whether there is a file for a partition now."""
        stem = name if grain is Grain.ONCE else f"{name}/{day_key(key)}"
        return any(self.place.stat(f"{stem}{suffix}") is not None for suffix in SUFFIXES)


class _Look:
    """One look at a table: each of its files is hashed, unless it is known or cannot be."""

    def __init__(
        self, landing: Landing, name: str, grain: Grain, known: Mapping[str, LandedFile], verify: bool
    ) -> None:
        self.landing = landing
        self.place = landing.place
        self.known = known
        self.verify = verify
        self.parts: dict[int, list[tuple[str, bytes]]] = {}
        self.blocked: dict[int, list[str]] = {}
        self.misnamed: dict[str, str] = {}
        self.unusable: dict[str, str] = {}
        self.unfinished: dict[str, float] = {}
        self.ignored: list[str] = []
        self.fresh: list[LandedFile] = []
        self.seen: set[str] = set()
        try:
            found = sorted(self.place.list(name), key=lambda file: file.path)
        except Unreadable as error:
            self.unusable[name] = str(error)
            self._as_before(name, grain)
            return
        for listed in found:
            key = key_of(listed.path, name, grain)
            if key is None:
                self._other(listed, name, grain)
                continue
            digest = self._part(listed, key)
            if digest is not None:
                self.seen.add(listed.path)
                self.parts.setdefault(key, []).append((listed.path, digest))

    def landed(self) -> Landed:
        return Landed(
            {key: _together([digest for _, digest in files]) for key, files in self.parts.items()},
            {key: tuple(path for path, _ in files) for key, files in self.parts.items()},
            {key: "; ".join(reasons) for key, reasons in self.blocked.items()},
            self.misnamed,
            self.unusable,
            self.unfinished,
            tuple(self.ignored),
        )

    def _as_before(self, name: str, grain: Grain) -> None:
        """What the files of a folder said that cannot be listed now."""
        for path, file in self.known.items():
            key = key_of(path, name, grain)
            if key is not None:
                self.seen.add(path)
                self.parts.setdefault(key, []).append((path, bytes.fromhex(file.digest)))

    def _other(self, listed: Listed, name: str, grain: Grain) -> None:
        """A name that is no partition. Whoever gave it a table's suffix expects to find it in the table."""
        if not listed.path.endswith(SUFFIXES):
            self.ignored.append(listed.path)
            return
        expected = (
            f"{name}.parquet" if grain is Grain.ONCE else f"{name}/YYYY-MM-DD.parquet, with a day that exists"
        )
        told = self.unusable if is_hostile(listed.path) else self.misnamed
        told[listed.path] = (
            f"{shown(f'{self.place.root}/{listed.path}')} is read by no table: its name is no partition of {name}. "
            f"Name it {expected}, or move it out of landing"
        )

    def _part(self, listed: Listed, key: int) -> bytes | None:
        """The digest of a partition's file, or of the reason why it cannot be taken; None if there is none yet."""
        path = f"{self.place.root}/{listed.path}"
        limit = self.landing.limits.size_bytes
        try:
            if listed.kind:
                reason = f"{path} is {listed.kind}, expected a plain file; put the file itself there"
            elif listed.size > limit:
                why = f"it has {listed.size:,} bytes, where at most {limit:,} are taken"
                reason = str(too_large(path, why))
            else:
                return self._digest(listed)
        except Unreadable as error:
            reason = str(error)
        self.blocked.setdefault(key, []).append(reason)
        return content_digest(reason.encode())

    def _digest(self, listed: Listed) -> bytes | None:
        known = self.known.get(listed.path)
        if (
            known is not None
            and not self.verify
            and _same(listed, known)
            and known.hashed_at_ns - known.mtime_ns > _UNSETTLED_NS
        ):
            return bytes.fromhex(known.digest)
        before = bytes.fromhex(known.digest) if known is not None else None
        for _ in range(_MOST_TRIES):
            hashed_at = TraceIndex.now_ns()
            try:
                data, after = self.place.read_listed(listed.path)
            except FileNotFoundError:
                return None
            self.landing.hashed += 1
            digest = content_digest(data)
            if after is None:
                return None
            if after == listed:
                young_ns = self.landing.quiet_ns - abs(hashed_at - listed.mtime_ns)
                if digest != before and young_ns > 0 and unfinished(listed.path, data, self.landing.limits):
                    self.unfinished[listed.path] = young_ns / 1_000_000_000
                    return before
                self.fresh.append(
                    LandedFile(
                        listed.path, listed.size, listed.mtime_ns, listed.mark, digest.hex(), hashed_at
                    )
                )
                return digest
            listed = after
        # It is being written: until that is done, what it said before counts. It is not gone.
        self.unfinished[listed.path] = self.landing.quiet_ns / 1_000_000_000
        return before


def key_of(path: str, name: str, grain: Grain) -> int | None:
    """The partition that a landed file holds by its name; None where the name is not that of a partition."""
    stem = path[: -len(suffix)] if (suffix := next((s for s in SUFFIXES if path.endswith(s)), "")) else ""
    if grain is Grain.ONCE:
        return 0 if stem == name else None
    folder, _, day = stem.rpartition("/")
    if folder != name:
        return None
    try:
        key = ordinal(day)
    except PlatformError:
        return None
    return key if day_key(key) == day else None


def day_to_come(place: LandingPlace, name: str) -> str:
    """The day after the last one that has landed of a daily table, YYYY-MM-DD; empty where none has."""
    found = [key_of(listed.path, name, Grain.DAY) for listed in place.list(name)] if name else []
    days = [key for key in found if key is not None]
    return day_key(max(days) + 1) if days else ""


def _same(listed: Listed, known: LandedFile) -> bool:
    return not listed.kind and (listed.size, listed.mtime_ns, listed.mark) == (
        known.size,
        known.mtime_ns,
        known.inode,
    )


def _belongs(path: str, name: str) -> bool:
    return path.startswith(f"{name}/") or path.partition(".")[0] == name


def content_digest(data: bytes) -> bytes:
    """What a landed file says: the first 16 bytes of its SHA-256."""
    return hashlib.sha256(data).digest()[:16]


def _together(digests: list[bytes]) -> bytes:
    return digests[0] if len(digests) == 1 else content_digest(b"".join(digests))
