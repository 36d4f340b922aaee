"""What the partitions of one asset read, as a run found it, and whether that has moved since."""

from collections.abc import Container, Iterator, Mapping, Sequence

from my_platform.errors import PlatformError, Refused
from my_platform.incremental.declare import DECIDED, LANDED, SERVED, Asset, ordinal
from my_platform.incremental.planner import Entry, Node, State, fingerprint_of, passed_over, window_keys
from my_platform.operations.outcome import Heads
from my_platform.operations.platform import Workspace
from my_platform.storage.lake import ABSENT, partition_key

_MOST_NAMED = 10


class InputMoved(PlatformError):
    """An input changed while it was read; the next refresh sees it as it is then."""


class Inputs:
    """The inputs of one asset within a run.

    Args:
        states: the versions of all assets, as they were planned and as the run has made them since.
        stale: partitions by asset that the run uses as they are, though a refresh would change them.
        refused: partitions by asset whose present inputs were refused, with the reason.
        accepted: by partition, the versions that were accepted last, where newer ones were refused.
    """

    def __init__(
        self,
        workspace: Workspace,
        node: Node,
        states: Mapping[str, State],
        stale: Mapping[str, set[int]],
        refused: Mapping[str, Mapping[int, str]],
        accepted: Mapping[int, Mapping[tuple[str, int], bytes]],
    ) -> None:
        self.workspace = workspace
        self.node = node
        self.asset: Asset = workspace.project.assets[node.name]
        self.states = states
        self.stale = stale
        self.refused = refused
        self.accepted = dict(accepted)

    @property
    def parents(self) -> list[str]:
        """The assets that are read, without landing."""
        return sorted({r.asset for r in self.asset.reads.values() if not r.asset.startswith(LANDED)})

    def now(self, heads: Heads) -> dict[str, dict[str, str]]:
        """The versions that the inputs and the asset itself have now, by asset and partition, without landing."""
        said = {r.asset for r in self.asset.reads.values() if r.asset.startswith((DECIDED, SERVED))}
        current = heads.read([*self.parents, self.node.name])
        return {**current, **{name: self.workspace.said_now(name) for name in said}}

    def versions(self, entry: Entry, name: str) -> dict[str, str]:
        """The versions of a read's partitions that are there, or that were there when they were accepted."""
        read = self.asset.reads[name]
        parent = self.states[read.asset]
        accepted = self.accepted[entry.key] if entry.accepted else {}
        found = {}
        for key in window_keys(read, parent, entry.key):
            version = accepted.get((read.asset, key)) if entry.accepted else parent.get(key)
            if version is not None:
                found[partition_key(parent.grain, key)] = version.hex()
        return found

    def landed(self, key: int) -> list[tuple[str, bytes]]:
        """Names and bytes of the landed files of a partition, as they were when the run was planned.

        Raises:
            InputMoved: a file is not any more what it was.
        """
        read = next(r for r in self.asset.reads.values() if r.asset.startswith(LANDED))
        landed = self.workspace.source(read.asset)
        found = self.workspace.landing.read(landed, key)
        if found is None:
            raise InputMoved(f"{', '.join(landed.files[key])} changed while it was read")
        return found

    def origin(self, entry: Entry, name: str) -> list[str]:
        """The landed files from which the raw partitions of a read can be made that a partition is made from."""
        parent = self.workspace.project.nodes[self.asset.reads[name].asset]
        lake, found = self.workspace.lake, []
        for partition, version in self.versions(entry, name).items():
            key = ordinal(partition)
            for _, read in parent.reads:
                landed = self.workspace.source(read.asset) if read.asset.startswith(LANDED) else None
                made = lake.index.trace(parent.name, partition, fingerprint_of(parent, key, self.states))
                if landed is not None and made is not None and made.data_version == version:
                    found += [
                        f"{self.workspace.landing.place.root}/{path}" for path in landed.files.get(key, ())
                    ]
        return found

    def released(self, entry: Entry) -> frozenset[str]:
        """The digests of a partition's rows that people let in.

        Raises:
            Refused: a decision cannot be read.
        """
        for name, read in self.asset.reads.items():
            if read.asset.startswith(DECIDED) and self.versions(entry, name):
                decided = self.workspace.decided[read.asset.removeprefix(DECIDED)]
                if entry.key in decided.landed.blocked:
                    raise Refused(decided.landed.blocked[entry.key])
                return decided.rows[entry.key]
        return frozenset()

    def moved(self, entry: Entry, now: Mapping[str, Mapping[str, str]]) -> str | None:
        """The input that has another head now than the one that was read; None if all stand still."""
        for _, read in self.node.reads:
            parent = self.states[read.asset]
            said = read.asset.startswith((DECIDED, SERVED))
            if read.asset.startswith(LANDED) and not said:
                if not self.workspace.landed_still(read.asset, parent.grain, entry.key):
                    return f"{read.asset} {partition_key(parent.grain, entry.key)}"
                continue
            for key in window_keys(read, parent, entry.key):
                partition = partition_key(parent.grain, key)
                version = parent.get(key)
                current = now.get(read.asset, {}).get(partition, ABSENT)
                if (version.hex() if version else ABSENT) != current and (
                    said or not self._no_head(read.asset, partition, current, version)
                ):
                    return f"{read.asset} {partition}"
        return None

    def gaps(self, key: int) -> list[str]:
        """The partitions that are missing from the windows of a partition and are passed over."""
        return [self._named(asset, k) for asset, k in passed_over(self.node, key, self.states)]

    def stale_ones(self, key: int) -> list[str]:
        """The inputs that were used as they are, though a refresh would change them; the first few."""
        return _first_few([self._named(asset, k) for asset, k in self._among(key, self.stale)])

    def older_ones(self, entry: Entry) -> list[str]:
        """The inputs that are the last good version, because what came after was refused; the first few."""
        older = [
            f"{self._named(a, k)}: {self.refused[a][k]}" for a, k in self._among(entry.key, self.refused)
        ]
        if entry.accepted and entry.key in self.refused.get(self.node.name, {}):
            older.insert(0, self.refused[self.node.name][entry.key])
        return _first_few(older)

    def same_content(self, entry: Entry) -> str:
        """Which other deliveries say the same as the one that a partition is made from, in words; empty for none."""
        assets = self.workspace.project.assets
        for _, read in self.node.reads:
            if read.asset not in assets or assets[read.asset].source is None:
                continue
            parent = self.states[read.asset]
            version = parent.get(entry.key) if parent.grain is self.node.grain else None
            if (read.first, read.last) == (0, 0) and version is not None:
                others = [self._named(read.asset, key) for key in parent.same_as(entry.key)]
                if others:
                    named = ", ".join(_first_few(others))
                    return f"{self._named(read.asset, entry.key)} has the same content as {named}"
        return ""

    def _among(self, key: int, marked: Mapping[str, Container[int]]) -> Iterator[tuple[str, int]]:
        """The partitions that a partition reads and that are marked."""
        for _, read in self.node.reads:
            if marked.get(read.asset):
                for k in window_keys(read, self.states[read.asset], key):
                    if k in marked[read.asset]:
                        yield read.asset, k

    def _no_head(self, asset: str, partition: str, current: str, version: bytes | None) -> bool:
        """Whether a latest event that differs names no stored object, and so is no head."""
        return version is None and not self.workspace.lake.index.find(asset, partition, current)

    def _named(self, asset: str, key: int) -> str:
        return f"{asset} {partition_key(self.states[asset].grain, key)}".strip()


def _first_few(names: Sequence[str]) -> list[str]:
    more = [f"and {len(names) - _MOST_NAMED} more"] if len(names) > _MOST_NAMED else []
    return [*names[:_MOST_NAMED], *more]
