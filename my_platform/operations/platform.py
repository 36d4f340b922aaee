"""A project as the platform runs it: its assets in order, its lake and what has landed."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from my_platform.errors import PlatformError
from my_platform.incremental.code import code_version, parameters_text
from my_platform.incremental.content import data_version
from my_platform.incremental.declare import (
    DECIDED,
    EPOCH,
    LANDED,
    RETRAINED,
    SERVED,
    Asset,
    Grain,
    ordinal,
    week_start,
)
from my_platform.incremental.memory import Memory
from my_platform.incremental.planner import Node, State, in_order
from my_platform.learning.contender import Contender
from my_platform.learning.ledger import Line, PromotionLedger, champions_by_day
from my_platform.learning.retraining.policy import Retraining
from my_platform.storage.decisions import Decided, Decisions
from my_platform.storage.lake import Lake, partition_key
from my_platform.storage.landing import Landed, Landing
from my_platform.storage.retraining import FitDecisions
from my_platform.storage.sealed import seal, tables_of, unseal
from my_platform.storage.traffic import Requests

# A decision says that a week is wanted and nothing else.
_WANTED = b"is wanted".ljust(16)
# How rows are hashed, stored and read counts in every code version.
_ROW_CODE = (data_version, seal, tables_of, unseal)


@dataclass(frozen=True)
class Project:
    """The assets of a domain, with their code versions and planner nodes, and the models that may serve."""

    assets: Mapping[str, Asset]
    contenders: Sequence[Contender] = ()

    @classmethod
    def of(cls, assets: Sequence[Asset], contenders: Sequence[Contender] = ()) -> "Project":
        """A project of these assets.

        Raises:
            PlatformError: two assets share a name, one reads what is not there, or they form a circle.
        """
        by_name: dict[str, Asset] = {}
        for asset in assets:
            if asset.name in by_name:
                raise PlatformError(f"two assets are named {asset.name}; give each its own name")
            by_name[asset.name] = asset
        for asset in assets:
            for read in asset.reads.values():
                if not read.asset.startswith(LANDED) and read.asset not in by_name:
                    raise PlatformError(
                        f"{asset.name} reads {read.asset}, which is no asset; there are {', '.join(sorted(by_name))}"
                    )
        for contender in contenders:
            missing = sorted({*contender.assets, *contender.consistency} - by_name.keys())
            if missing:
                raise PlatformError(
                    f"the contender {contender.model} names {', '.join(missing)}, which is no asset"
                )
        project = cls(by_name, tuple(contenders))
        in_order(project.nodes)
        return project

    @cached_property
    def code_versions(self) -> dict[str, str]:
        """The code version of each asset, 16 hexadecimal digits, parameters included."""
        return {name: asset_code_version(asset) for name, asset in self.assets.items()}

    @cached_property
    def nodes(self) -> dict[str, Node]:
        return {
            name: Node(
                name,
                asset.grain,
                tuple(asset.reads.items()),
                self.code_versions[name],
                f"{RETRAINED}{name}" if name in self.policies else "",
            )
            for name, asset in self.assets.items()
        }

    @cached_property
    def policies(self) -> dict[str, Retraining]:
        """The retraining policies by model; a model without one is fitted every week."""
        return {c.model: c.retraining for c in self.contenders if c.retraining is not None}

    @cached_property
    def order(self) -> list[Node]:
        """The assets, parents before children."""
        return in_order(self.nodes)

    @cached_property
    def tables(self) -> dict[str, Grain]:
        """The landed tables by name, with their grain."""
        return {asset.source: asset.grain for asset in self.assets.values() if asset.source is not None}

    @cached_property
    def decided(self) -> dict[str, Grain]:
        """The assets about whose rows people may decide, with their grain."""
        reads = [(asset.grain, read.asset) for asset in self.assets.values() for read in asset.reads.values()]
        return {name.removeprefix(DECIDED): grain for grain, name in reads if name.startswith(DECIDED)}

    @cached_property
    def uses(self) -> list[str]:
        """The uses whose champions are read."""
        reads = {read.asset for asset in self.assets.values() for read in asset.reads.values()}
        return sorted(name.removeprefix(SERVED) for name in reads if name.startswith(SERVED))

    def code_of(self, name: str) -> dict[str, str]:
        """The code versions of an asset and of all that it is made from."""
        return {found: self.code_versions[found] for found in sorted(self.ancestors([name]))}

    def ancestors(self, names: Sequence[str]) -> set[str]:
        """The named assets and all that they are made from."""
        found: set[str] = set()
        todo = list(names)
        while todo:
            name = todo.pop()
            if name not in found and name in self.assets:
                found.add(name)
                todo.extend(read.asset for read in self.assets[name].reads.values())
        return found


@dataclass
class Workspace:
    """A project on its storage."""

    project: Project
    lake: Lake
    landing: Landing
    landed: dict[str, Landed] = field(default_factory=dict)
    decided: dict[str, Decided] = field(default_factory=dict)
    ledger: PromotionLedger | None = None
    served: dict[str, Landed] = field(default_factory=dict)
    wanted: dict[str, frozenset[int]] = field(default_factory=dict)
    marks: dict[str, int] = field(default_factory=dict)
    memory: Memory = field(default_factory=Memory)

    def look(self, *, verify: bool = False) -> dict[str, Landed]:
        """Reconcile the ledger with what lies in landing now."""
        self.landed = self.landing.scan(self.project.tables, verify=verify)
        if self.decisions.is_marked:
            # Before the look: what is added in between changes the mark, or is seen.
            self.marks = {asset: self.decisions.mark(asset) for asset in self.project.decided}
        self.decided = self.decisions.scan(self.project.decided)
        self.wanted = self.fit_decisions.weeks(sorted(self.project.policies))
        self.look_at_champions()
        return self.landed

    def look_at_champions(self) -> None:
        """See who serves on each day that has landed."""
        lines = self.ledger.by_use() if self.ledger is not None and self.project.uses else {}
        self.served = {use: self._champions(lines.get(use, ())) for use in self.project.uses}

    @property
    def unfinished_s(self) -> float:
        """The seconds after which every file that was unfinished at the last look is taken as it is."""
        return max((s for landed in self.landed.values() for s in landed.unfinished.values()), default=0.0)

    @property
    def decisions(self) -> Decisions:
        """What people decided about rows, which lies beside the landed files."""
        return Decisions(self.landing.place)

    @property
    def fit_decisions(self) -> FitDecisions:
        """Which weeks of the models with a retraining policy are to be fitted."""
        return FitDecisions(self.landing.place)

    def why_fitted(self, asset: str, key: int) -> str:
        """Why a week of a model is fitted, where a retraining policy decides that; else nothing."""
        if key not in self.wanted.get(asset, ()):
            return ""
        try:
            return self.fit_decisions.about(asset, key).reason
        except PlatformError as error:
            return str(error)

    def source(self, name: str) -> Landed:
        """What was seen at the last look of a landed table or of decisions, by the name that assets read."""
        if name.startswith(DECIDED):
            return self.decided[name.removeprefix(DECIDED)].landed
        if name.startswith(SERVED):
            return self.served[name.removeprefix(SERVED)]
        return self.landed[name.removeprefix(LANDED)]

    def landed_still(self, name: str, grain: Grain, key: int) -> bool:
        """Whether a partition of a landed table is as it was at the last look."""
        seen = self.source(name)
        if key not in seen.digests:
            return not self.landing.has(name.removeprefix(LANDED), grain, key)
        return self.landing.still(seen, key)

    def said_now(self, name: str) -> dict[str, str]:
        """The versions of the decisions about an asset, or of a use's champions, as they are now, by partition."""
        if name.startswith(SERVED):
            lines = self.ledger.lines(name.removeprefix(SERVED)) if self.ledger is not None else ()
            digests = self._champions(lines).digests
            return {partition_key(Grain.DAY, key): digest.hex() for key, digest in digests.items()}
        asset = name.removeprefix(DECIDED)
        grain = self.project.decided[asset]
        if asset in self.marks and asset in self.decided and self.decisions.mark(asset) == self.marks[asset]:
            digests = self.decided[asset].landed.digests
        else:
            digests = self.decisions.scan({asset: grain})[asset].landed.digests
        return {partition_key(grain, key): digest.hex() for key, digest in digests.items()}

    @property
    def requests(self) -> Requests | None:
        """What was asked of buckets so far; None where landing and lake are folders."""
        asked = [
            traffic.so_far
            for each in (self.lake.store, self.landing.place, self.ledger)
            if (traffic := getattr(each, "traffic", None)) is not None
        ]
        return sum(asked, Requests()) if asked else None

    def source_states(self) -> dict[str, State]:
        """The landed tables and the decisions as states for the planner."""
        landed = {
            f"{LANDED}{name}": State.of(self.project.tables[name], found.digests)
            for name, found in self.landed.items()
        }
        decided = {
            f"{DECIDED}{name}": State.of(self.project.decided[name], found.landed.digests)
            for name, found in self.decided.items()
        }
        served = {f"{SERVED}{use}": State.of(Grain.DAY, found.digests) for use, found in self.served.items()}
        wanted = {
            f"{RETRAINED}{model}": State.of(Grain.WEEK, dict.fromkeys(weeks, _WANTED))
            for model, weeks in self.wanted.items()
        }
        return {**landed, **decided, **served, **wanted}

    def _champions(self, lines: Sequence[Line]) -> Landed:
        """The champion of each day that has landed, by the first bytes of its bundle's name."""
        _, last = self._days
        return Landed(champions_by_day(lines, last))

    @property
    def _days(self) -> tuple[int, int]:
        """The first and the last day that has landed."""
        days = [
            key
            for name, landed in self.landed.items()
            if self.project.tables[name] is Grain.DAY
            for key in landed.digests
        ]
        return (min(days), max(days)) if days else (0, -1)

    def domain(self, node: Node) -> tuple[int, int]:
        """First and last partition that an asset can have, from the days that have landed."""
        if node.grain is Grain.ONCE:
            return 0, 0
        first, last = self._days
        if first > last or node.grain is Grain.DAY:
            return first, last
        return _first_wednesday(first), week_start_ordinal(last + 1)


def asset_code_version(asset: Asset) -> str:
    """The code version of an asset, 16 hexadecimal digits, parameters included."""
    reached = code_version(*asset.code, *_ROW_CODE)
    reads = {n: [r.columns, r.gaps, r.at_least] for n, r in asset.reads.items()}
    whole = parameters_text({"code": reached, "parameters": asset.parameters, "reads": reads})
    return hashlib.sha256(whole.encode()).hexdigest()[:16]


def week_start_ordinal(day: int) -> int:
    from datetime import date

    return week_start(date.fromordinal(day + EPOCH)).toordinal() - EPOCH


def _first_wednesday(day: int) -> int:
    start = week_start_ordinal(day)
    return start if start == day else start + 7


def check_key(asset: Asset, key: str) -> int:
    """The planner's number of a partition key that a person gave.

    Raises:
        PlatformError: the asset has no such partitions, or the key is not a day, or not a Wednesday.
    """
    if asset.grain is Grain.ONCE:
        if key:
            raise PlatformError(f"{asset.name} has no partitions, so `{key}` is none of them")
        return 0
    if not key:
        raise PlatformError(
            f"{asset.name} has a partition for each {asset.grain.value}; say which, as YYYY-MM-DD"
        )
    number = ordinal(key)
    if asset.grain is Grain.WEEK and week_start_ordinal(number) != number:
        raise PlatformError(f"{asset.name} has weekly partitions that start on Wednesdays; {key} is none")
    return number
