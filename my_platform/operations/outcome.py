"""What a run is asked for, what it did, and the heads that it reads and sets."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from my_platform.incremental.checks import CheckResult
from my_platform.incremental.planner import Node
from my_platform.storage.accepted import Events


class Heads(Events, Protocol):
    """Which data version each partition has now, as the orchestrator records it."""

    def read(self, assets: Sequence[str]) -> dict[str, dict[str, str]]:
        """Data version by partition by asset; withdrawn partitions read ``absent``."""
        ...

    def emit(self, asset: str, partition: str, version: str, metadata: Mapping[str, Any]) -> None:
        """Make a data version the head of a partition."""
        ...

    def judge(self, asset: str, found: Mapping[str, Sequence[CheckResult]]) -> None:
        """Record how partitions answered the checks of their asset; it is said of what is current now."""
        ...

    def withdraw(self, asset: str, partition: str) -> None:
        """Record that a partition has no head any more."""
        ...

    def refuse(self, asset: str, partition: str, metadata: Mapping[str, Any]) -> None:
        """Record that new inputs of a partition were refused; its head stays as it is."""
        ...

    def commit_section(self) -> AbstractContextManager[None]:
        """A section that one process at a time is in."""
        ...


@dataclass
class Outcome:
    """What a run did: partitions by asset, reasons by partition; ``stopped`` are fingerprints that failed.

    ``faults`` are those among them that storage or network failed, with their asset and partition: they may
    pass when they are tried again.
    """

    computed: dict[str, list[str]] = field(default_factory=dict)
    reused: dict[str, list[str]] = field(default_factory=dict)
    withdrawn: dict[str, list[str]] = field(default_factory=dict)
    failed: dict[str, dict[str, str]] = field(default_factory=dict)
    waiting: dict[str, dict[str, str]] = field(default_factory=dict)
    interrupted: dict[str, dict[str, str]] = field(default_factory=dict)
    stopped: set[str] = field(default_factory=set)
    faults: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def made_progress(self) -> bool:
        return any((self.computed, self.reused, self.withdrawn, self.failed, self.interrupted))

    def open_again(self) -> None:
        """Let what storage or network failed be tried again."""
        for fingerprint, (asset, partition) in self.faults.items():
            self.stopped.discard(fingerprint)
            self.failed.get(asset, {}).pop(partition, None)
        self.failed = {asset: reasons for asset, reasons in self.failed.items() if reasons}
        self.faults.clear()

    def add(self, other: "Outcome") -> None:
        self.stopped |= other.stopped
        self.faults |= other.faults
        for mine, theirs in (
            (self.computed, other.computed),
            (self.reused, other.reused),
            (self.withdrawn, other.withdrawn),
        ):
            for asset, keys in theirs.items():
                mine.setdefault(asset, []).extend(keys)
        for reasons, others in (
            (self.failed, other.failed),
            (self.waiting, other.waiting),
            (self.interrupted, other.interrupted),
        ):
            for asset, found in others.items():
                reasons.setdefault(asset, {}).update(found)


def go_on() -> bool:
    """Nobody asks a run to stop."""
    return False


@dataclass(frozen=True)
class Request:
    """What a run is asked for.

    Attributes:
        assets: the assets to bring up to date, in any order.
        allowed: the partitions that may change; None for all of the assets.
        insist: partitions by asset that the caller wants an event for, also when they are fresh.
        awaited: the assets among them whose events other runs wait for, also for partitions that this run
            cannot compute: a backfill requests nothing behind a partition without an event.
        run_id: names the run in records.
        stop: asked after each partition; where it says so, the run ends and leaves the rest for another one.
        aside: that the values are for a candidate: checks, registry and reports tell of what is current, and
            so are not told of them.
    """

    assets: frozenset[str]
    allowed: Callable[[Node, int], bool] | None = None
    insist: Mapping[str, Sequence[str]] = field(default_factory=dict)
    awaited: frozenset[str] = frozenset()
    run_id: str = ""
    stop: Callable[[], bool] = go_on
    aside: bool = False
