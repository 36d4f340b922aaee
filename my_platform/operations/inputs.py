"""What the partitions of one asset read, as a run found it, and whether that has moved since."""

from collections.abc import Mapping

from my_platform.errors import PlatformError
from my_platform.incremental.declare import Asset, Grain, Read
from my_platform.incremental.planner import Entry, Node, State, passed_over, window_keys
from my_platform.operations.platform import LANDED, Workspace
from my_platform.storage.lake import ABSENT, partition_key
from my_platform.storage.landing import Landed

_MOST_NAMED = 10


class InputMoved(PlatformError):
    """An input changed while it was read; the next refresh sees it as it is then."""


class Inputs:
    """The inputs of one asset within a run.

    Args:
        states: the versions of all assets, as they were planned and as the run has made them since.
        stale: partitions by asset that the run uses as they are, though a refresh would change them.
        accepted: by partition, the versions that were accepted last, where newer ones were refused.
    """

    def __init__(
        self,
        workspace: Workspace,
        node: Node,
        states: Mapping[str, State],
        stale: Mapping[str, set[int]],
        accepted: Mapping[int, Mapping[tuple[str, int], bytes]],
    ) -> None:
        self.workspace = workspace
        self.node = node
        self.asset: Asset = workspace.project.assets[node.name]
        self.states = states
        self.stale = stale
        self.accepted = dict(accepted)

    @property
    def parents(self) -> list[str]:
        """The assets that are read, without landing."""
        return sorted({r.asset for r in self.asset.reads.values() if not r.asset.startswith(LANDED)})

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
        landed = self._landed(read)
        found = self.workspace.landing.read(landed.files[key], landed.digests[key])
        if found is None:
            raise InputMoved(f"{', '.join(landed.files[key])} changed while it was read")
        return found

    def moved(self, entry: Entry, now: Mapping[str, Mapping[str, str]]) -> str | None:
        """The input that has another head now than the one that was read; None if all stand still."""
        for _, read in self.node.reads:
            parent = self.states[read.asset]
            if read.asset.startswith(LANDED):
                if not self._landed_still(read, parent.grain, entry.key):
                    return f"{read.asset} {partition_key(parent.grain, entry.key)}"
                continue
            for key in window_keys(read, parent, entry.key):
                partition = partition_key(parent.grain, key)
                version = parent.get(key)
                current = now.get(read.asset, {}).get(partition, ABSENT)
                if (version.hex() if version else ABSENT) != current and not self._no_head(
                    read.asset, partition, current, version
                ):
                    return f"{read.asset} {partition}"
        return None

    def gaps(self, key: int) -> list[str]:
        """The partitions that are missing from the windows of a partition and are passed over."""
        return [self._named(asset, k) for asset, k in passed_over(self.node, key, self.states)]

    def stale_ones(self, key: int) -> list[str]:
        """The inputs that were used as they are, though a refresh would change them; the first few."""
        stale = [
            self._named(read.asset, k)
            for _, read in self.node.reads
            if self.stale.get(read.asset)
            for k in window_keys(read, self.states[read.asset], key)
            if k in self.stale[read.asset]
        ]
        more = [f"and {len(stale) - _MOST_NAMED} more"] if len(stale) > _MOST_NAMED else []
        return [*stale[:_MOST_NAMED], *more]

    def _landed_still(self, read: Read, grain: Grain, key: int) -> bool:
        landed, landing = self._landed(read), self.workspace.landing
        digest = landed.digests.get(key)
        if digest is None:
            return not landing.has(read.asset.removeprefix(LANDED), grain, key)
        return landing.still(landed.files[key], digest)

    def _no_head(self, asset: str, partition: str, current: str, version: bytes | None) -> bool:
        """Whether a latest event that differs names no stored object, and so is no head."""
        return version is None and not self.workspace.lake.index.find(asset, partition, current)

    def _named(self, asset: str, key: int) -> str:
        return f"{asset} {partition_key(self.states[asset].grain, key)}".strip()

    def _landed(self, read: Read) -> Landed:
        return self.workspace.landed[read.asset.removeprefix(LANDED)]
