"""A platform on a temporary folder beside the clean build of the same world; every refresh is held to the laws.

What lies in landing and what the code is are told to both. The platform runs as it does in production, but
for Dagster: heads are kept in memory, and the run that a refresh asks for is executed at once.
"""

import contextlib
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from assets_tests.incremental.clean_build import Build, Made, clean_build, partitions
from assets_tests.incremental.generated import Code, Graph, Source, assets_of, steps_of, text_of
from my_platform.errors import DamagedObject
from my_platform.incremental.content import data_version
from my_platform.incremental.planner import Action, Node
from my_platform.operations.execution import Execution
from my_platform.operations.outcome import Outcome, Request
from my_platform.operations.platform import Project, Workspace
from my_platform.operations.refresh import Order, Report, bring_up_to_date, look_ahead, refresh
from my_platform.storage.lake import ABSENT, Lake, partition_key
from my_platform.storage.landing import Landing
from my_platform.storage.objects import FolderStore
from my_platform.storage.places import LandingFolder
from my_platform.storage.trace_index import TraceIndex

Part = tuple[str, str]
BROKEN = "x\nbroken\n"


class LawBroken(AssertionError):
    """A law does not hold; ``law`` names it."""

    def __init__(self, law: str, text: str) -> None:
        super().__init__(f"{law}: {text}")
        self.law = law


class SimulatedKill(BaseException):
    """The process ends here."""


@dataclass
class Log:
    """What happened at the borders of the platform, and what is to happen at the next crossings."""

    created: list[tuple[str, str, str]] = field(default_factory=list)
    called: list[Part] = field(default_factory=list)
    emitted: list[tuple[str, str, str]] = field(default_factory=list)
    refused: list[Part] = field(default_factory=list)
    launched: int = 0
    crossings: int = 0
    at: dict[int, Callable[[], None]] = field(default_factory=dict)

    def cross(self, *, inside: bool = False) -> None:
        """A point where a process can be killed or overtaken; in a commit section only killed."""
        self.crossings += 1
        action = self.at.get(self.crossings)
        if action is None:
            return
        if inside and action is not kill:
            self.at[self.crossings + 1] = self.at.pop(self.crossings)
            return
        del self.at[self.crossings]
        action()


def kill() -> None:
    raise SimulatedKill


class MemoryHeads:
    """Heads as an orchestrator keeps them: the latest event of each partition. They outlive a crash."""

    def __init__(self) -> None:
        self.now: dict[str, dict[str, str]] = {}
        self.fingerprints: dict[Part, str] = {}
        self.events: list[tuple[Part, str]] = []
        self.lock = threading.RLock()

    def seen_by(self, log: Log) -> "SeenHeads":
        return SeenHeads(self, log)


class SeenHeads:
    """The heads as one process sees them."""

    def __init__(self, heads: MemoryHeads, log: Log) -> None:
        self.heads = heads
        self.log = log
        self.inside = False

    def read(self, assets: Sequence[str]) -> dict[str, dict[str, str]]:
        return {asset: dict(self.heads.now.get(asset, {})) for asset in assets}

    def made_by(self, asset: str, partition: str) -> str | None:
        return self.heads.fingerprints.get((asset, partition))

    def history(self, asset: str, partition: str) -> list[tuple[int, str]]:
        events = enumerate(self.heads.events)
        return [(number, version) for number, (part, version) in events if part == (asset, partition)]

    def emit(self, asset: str, partition: str, version: str, metadata: Mapping[str, Any]) -> None:
        self.log.cross(inside=self.inside)
        self.heads.now.setdefault(asset, {})[partition] = version
        self.heads.fingerprints[asset, partition] = metadata["fingerprint"]
        self.heads.events.append(((asset, partition), version))
        self.log.emitted.append((asset, partition, version))
        self.log.cross(inside=self.inside)

    def withdraw(self, asset: str, partition: str) -> None:
        self.log.cross(inside=self.inside)
        self.heads.now.setdefault(asset, {})[partition] = ABSENT
        self.heads.fingerprints.pop((asset, partition), None)
        self.heads.events.append(((asset, partition), ABSENT))
        self.log.emitted.append((asset, partition, ABSENT))
        self.log.cross(inside=self.inside)

    def refuse(self, asset: str, partition: str, metadata: Mapping[str, Any]) -> None:
        self.log.cross()

    @contextlib.contextmanager
    def commit_section(self) -> Iterator[None]:
        self.log.cross()
        with self.heads.lock:
            self.inside = True
            try:
                yield
            finally:
                self.inside = False


class SeenStore(FolderStore):
    """A folder of objects that tells what was created."""

    def __init__(self, root: Path, log: Log) -> None:
        super().__init__(root)
        self.log = log

    def create(self, path: str, data: bytes) -> bool:
        self.log.cross()
        created = super().create(path, data)
        if created:
            asset, partition, name = path.rsplit("/", 2)
            self.log.created.append((asset, partition.replace("all", ""), name.removesuffix(".parquet")))
        self.log.cross()
        return created


class SeenIndex(TraceIndex):
    """An index that can be cut off before and after it writes."""

    log: Log

    def add(self, traces: Any, costs: Any = ()) -> None:
        self.log.cross()
        super().add(traces, costs)
        self.log.cross()

    def refuse(self, asset: str, partition: str, fingerprint: str, reason: str) -> None:
        self.log.cross()
        super().refuse(asset, partition, fingerprint, reason)
        self.log.refused.append((asset, partition))
        self.log.cross()


class World:
    """A graph, its code, its landed files, the platform's folders, and the clean build so far.

    Attributes:
        traced: all that was ever computed, with the fingerprint that the platform gave it.
        damaged: those of them whose objects were damaged: they are owed again when they are needed.
        refused: all that was ever refused.
        build: the clean build at the last refresh.
        owed, run: how much was owed and how much was committed, over the whole history.
    """

    def __init__(self, folder: Path, graph: Graph, code: Code | None = None) -> None:
        self.folder = folder
        self.graph = graph
        self.files: dict[str, dict[str, str]] = {n.name: {} for n in graph if isinstance(n, Source)}
        self.heads = MemoryHeads()
        self.traced: dict[Made, str] = {}
        self.damaged: set[Made] = set()
        self.refused: set[Made] = set()
        self.build = Build()
        self.owed = self.run = 0
        self.cut_off = False
        folder.mkdir(parents=True, exist_ok=True)
        self.write_code(code or Code())

    # The world changes.

    def write_code(self, code: Code) -> None:
        self.code = code
        self.steps = steps_of(self.graph, code)
        self.project = Project.of(assets_of(self.graph, code, self.folder))
        self.versions = dict(self.project.code_versions)

    def regraph(self, graph: Graph) -> None:
        """Change what the assets read."""
        self.graph = graph
        self.write_code(self.code)

    def land(self, source: str, partition: str, text: str | tuple[int, ...]) -> None:
        """Put a file there, or in the place of the one that is there."""
        text = text if isinstance(text, str) else text_of(text)
        self.files[source][partition] = text
        path = self.landed_path(source, partition)
        path.parent.mkdir(parents=True, exist_ok=True)
        staged = path.with_name(f".{path.name}")
        staged.write_text(text)
        os.replace(staged, path)

    def remove(self, source: str, partition: str) -> None:
        del self.files[source][partition]
        self.landed_path(source, partition).unlink()

    def rename(self, source: str, old: str, new: str) -> None:
        """Give the file of a partition the name of another one; it is the same file, with its inode and time."""
        self.files[source][new] = self.files[source].pop(old)
        self.landed_path(source, old).replace(self.landed_path(source, new))

    def landed_path(self, source: str, partition: str) -> Path:
        return self.folder / "landing" / (f"{source}/{partition}.csv" if partition else f"{source}.csv")

    def report_by_hand(self, asset: str, partition: str, version: str) -> None:
        """An event that no run made, which names no stored object of that partition."""
        self.heads.now.setdefault(asset, {})[partition] = version
        self.build.tables.get(asset, {}).pop(partition, None)

    def damage(self, asset: str, partition: str, harm: Callable[[Path], None]) -> None:
        """Harm the object of a current partition."""
        made = self.build.made[asset, partition]
        harm(self.folder / "lake" / asset / (partition or "all") / f"{self.traced[made]}.parquet")
        self.damaged.add(made)

    def objects(self) -> list[Path]:
        return sorted((self.folder / "lake").glob("*/*/*.parquet"))

    def lose_index(self) -> None:
        for path in self.folder.glob("index.db*"):
            path.unlink()
        self.cut_off = True
        self.refused.clear()

    # The platform at work.

    def process(self, log: Log | None = None) -> "Process":
        return Process(self, log or Log())

    def expected(self, allowed: Callable[[str, str], bool] | None = None) -> Build:
        return clean_build(self.steps, self.files, self.build, allowed or (lambda _asset, _partition: True))

    def refresh(self, allowed: Callable[[str, str], bool] | None = None, **options: Any) -> Report:
        """Refresh, and again; raises LawBroken."""
        log = Log()
        build = self.expected(allowed)
        plan = None if options or self.damaged or self.cut_off else self.process().look_ahead(allowed)
        # What a killed process stored and did not index is found by a refresh that may look for it.
        self.cut_off = self.cut_off and allowed is not None
        report = self.process(log).refresh(allowed, **options)
        self._check_calls(build, log)
        if plan is not None and not build.refused:
            _check_foretold(plan, log)
        self.settle(build, [log])
        self.check_sound(build)
        self.check_refusals(build, report)
        self.check_idle(build, allowed)
        return report

    def settle(self, build: Build, logs: Sequence[Log]) -> None:
        """Hold what was computed against what was owed, each once, and take the build as the present one."""
        owed = {made[:2]: made for made in build.made.values() if made not in self.traced}
        self._take_created(build, logs, owed)
        if owed:
            raise LawBroken("exact", f"owed and not committed: {sorted(owed)}")
        self.refused |= build.tried
        self.build = build

    def _take_created(self, build: Build, logs: Sequence[Log], owed: dict[Part, Made]) -> None:
        created = [c for log in logs for c in log.created]
        twice = [c for c, n in Counter(created).items() if n > 1]
        if twice:
            raise LawBroken("once", f"committed more than once: {twice}")
        self.owed += len(owed)
        for asset, partition, fingerprint in created:
            made = owed.pop((asset, partition), None)
            if made is not None:
                self.run += 1
                self._trace(made, fingerprint)
                continue
            made = build.made.get((asset, partition))
            if made not in self.damaged or self.traced[made] != fingerprint:
                raise LawBroken("exact", f"{asset} {partition} was committed and not owed")
            self.damaged.remove(made)

    def _check_calls(self, build: Build, log: Log) -> None:
        """Functions ran for what was committed and for what was refused for the first time, and no more."""
        attempts = Counter(made[:2] for made in build.tried - self.refused)
        tried = Counter((asset, partition) for asset, partition, _ in log.created) + attempts
        if Counter(log.called) != tried:
            more, less = Counter(log.called) - tried, tried - Counter(log.called)
            raise LawBroken("exact", f"run and not owed: {dict(more)}; owed and not run: {dict(less)}")

    def _trace(self, made: Made, fingerprint: str) -> None:
        if fingerprint in self.traced.values():
            raise LawBroken("fingerprint", f"{made[:2]} has the fingerprint of something else")
        self.traced[made] = fingerprint

    def check_sound(self, build: Build) -> None:
        """Every head is what the clean build gives, to the last bit, and nothing else is a head."""
        lake = self.process().workspace.lake
        for step in self.steps:
            found = {
                p: v
                for p, v in self.heads.now.get(step.name, {}).items()
                if v != ABSENT and (p in build.tables[step.name] or lake.index.find(step.name, p, v))
            }
            expected = {p: version_of(t) for p, t in build.tables[step.name].items()}
            if found != expected:
                wrong = sorted(p for p in {*found, *expected} if found.get(p) != expected.get(p))
                p = wrong[0]
                raise LawBroken(
                    "sound",
                    f"{step.name} {p} is {found.get(p)}, and {expected.get(p)} by a clean build "
                    f"({build.tables[step.name].get(p)}); wrong: {wrong}",
                )

    def check_stored(self, build: Build) -> None:
        """Every current table can be read and is the clean build's."""
        lake = self.process().workspace.lake
        for asset, tables in build.tables.items():
            for partition, rows in tables.items():
                stored = lake.read(asset, partition, version_of(rows))
                if tuple(stored["x"]) != rows or stored.schema != {"x": pl.Int64}:
                    raise LawBroken("sound", f"{asset} {partition} holds {stored} instead of {rows}")

    def check_refusals(self, build: Build, report: Report) -> None:
        reported = {(a, p) for a, found in report.outcome.failed.items() for p in found}
        if not build.refused <= reported:
            raise LawBroken("refusals", f"refused and not reported: {build.refused - reported}")
        if reported - build.refused:
            raise LawBroken("refusals", f"reported and not refused: {report.outcome.failed}")

    def check_idle(self, build: Build, allowed: Callable[[str, str], bool] | None = None) -> None:
        """A second refresh asks for no run, sets no head and still names what is refused."""
        log = Log()
        report = self.process(log).refresh(allowed)
        if log.launched or log.created or log.called or log.emitted or report.runs:
            raise LawBroken("idle", f"launched {log.launched} runs: {log}")
        self.check_refusals(build, report)

    def crash(self, crossing: int) -> bool:
        """Refresh and be killed at a crossing; whether it came that far."""
        log = Log(at={crossing: kill})
        build = self.expected()
        try:
            self.process(log).refresh()
        except SimulatedKill:
            owed = {made[:2]: made for made in build.made.values() if made not in self.traced}
            self._take_created(build, [log], owed)
            self.owed -= len(owed)
            self._absorb(build, log)
            self.cut_off = True
            return True
        self._check_calls(build, log)
        self.settle(build, [log])
        self.check_sound(build)
        return False

    def overtaken(self, crossing: int, change: Callable[[], None]) -> bool:
        """Refresh; in the middle of it the world changes and another process refreshes; whether it did."""
        first, second = Log(), Log()
        builds = [self.expected()]
        emitted_before: list[int] = []

        def interlude() -> None:
            self._absorb(builds[0], first)
            change()
            builds.append(self.expected())
            self.process(second).refresh()
            self.check_sound(builds[1])
            emitted_before.append(len(first.emitted))

        first.at[crossing] = interlude
        self.process(first).refresh()
        if not emitted_before:
            self._check_calls(builds[0], first)
            self.settle(builds[0], [first])
            self.check_sound(builds[0])
            return False
        self.check_sound(builds[1])
        for asset, partition, version in first.emitted[emitted_before[0] :]:
            table = builds[1].tables[asset].get(partition)
            step = next(step for step in self.steps if step.name == asset)
            if partition not in partitions(step, self.steps, self.files):
                continue  # The day itself is gone, which no input tells; the same refresh withdraws it.
            if version != (ABSENT if table is None else version_of(table)):
                raise LawBroken("head", f"{asset} {partition} was set to {version} after it had moved on")
        self._settle_both(builds[0], builds[1], first, second)
        self.check_idle(builds[1])
        return True

    def _absorb(self, build: Build, log: Log) -> None:
        """Take over what a process that went away had made current and refused."""
        for asset, partition, version in log.emitted:
            if version == ABSENT:
                self.build.tables.get(asset, {}).pop(partition, None)
                continue
            self.build.tables.setdefault(asset, {})[partition] = build.tables[asset][partition]
            self.build.inputs[asset, partition] = build.inputs[asset, partition]
            if (asset, partition) in build.made:
                self.build.made[asset, partition] = build.made[asset, partition]
        for part in log.refused:
            tried = [made for made in build.tried - self.refused if made[:2] == part]
            present = [made for made in tried if made[3] != self.build.inputs.get(part)]
            self.refused |= set((present or tried)[:1])

    def _settle_both(self, before: Build, after: Build, *logs: Log) -> None:
        created = {c for log in logs for c in log.created}
        old = {
            m[:2]: m for m in before.made.values() if m not in self.traced and m not in after.made.values()
        }
        now = {m[:2]: m for m in after.made.values() if m not in self.traced}
        stale = [c for c in created if c[:2] in old and self.heads.fingerprints.get(c[:2]) != c[2]]
        for asset, partition, fingerprint in stale:
            self._trace(old[asset, partition], fingerprint)
        self.owed += len(stale)
        self.run += len(stale)
        current = [Log(created=[c for c in log.created if c not in stale]) for log in logs]
        self._take_created(after, current, now)
        if now:
            raise LawBroken("exact", f"owed and not committed: {sorted(now)}")
        self.refused |= after.tried
        self.refused |= {
            made for made in before.tried if made[:2] in {p for log in logs for p in log.refused}
        }
        self.build = after


class Process:
    """The platform as one process holds it."""

    def __init__(self, world: World, log: Log) -> None:
        self.world = world
        self.log = log
        index = SeenIndex(world.folder / "index.db")
        index.log = log
        lake = Lake(SeenStore(world.folder / "lake", log), FolderStore(world.folder / "quarantine"), index)
        counted = {
            name: replace(asset, compute=_counted(name, asset.compute, log))
            for name, asset in world.project.assets.items()
        }
        project = Project(counted)
        project.__dict__["code_versions"] = dict(world.versions)
        self.workspace = Workspace(project, lake, Landing(LandingFolder(world.folder / "landing"), index))
        self.heads = world.heads.seen_by(log)

    def refresh(self, allowed: Callable[[str, str], bool] | None = None, **options: Any) -> Report:
        return refresh(self.workspace, self.heads, self._launch, allowed=_by_node(allowed), **options)

    def look_ahead(self, allowed: Callable[[str, str], bool] | None = None) -> dict[Part, Action]:
        """What a refresh would do, by partition."""
        planned = look_ahead(self.workspace, self.heads, _by_node(allowed))
        grains = {name: asset.grain for name, asset in self.world.project.assets.items()}
        return {(e.asset, partition_key(grains[e.asset], e.key)): e.action for e in planned.entries}

    def _launch(self, order: Order) -> None:
        self.log.launched += 1
        order.outcome.add(bring_up_to_date(self.workspace, self.heads, order.allowed, run_id="run"))

    def materialize(self, asset: str, partitions: Sequence[str]) -> Outcome:
        """A run from the UI: some partitions of one asset."""
        allowed = _by_node(lambda name, partition: name == asset and partition in partitions)
        return Execution(
            self.workspace, self.heads, Request(frozenset({asset}), allowed, {asset: partitions}, "run")
        ).run()


def _check_foretold(plan: dict[Part, Action], log: Log) -> None:
    """What was certain is computed, and nothing else but what was possible."""
    done = {(asset, partition) for asset, partition, _ in log.created}
    certain = {part for part, action in plan.items() if action in (Action.COMPUTE, Action.LATER)}
    possible = {part for part, action in plan.items() if action is Action.POSSIBLE}
    if not certain <= done <= certain | possible:
        raise LawBroken(
            "foretold", f"certain and not done: {certain - done}; not foretold: {done - certain - possible}"
        )


def _by_node(allowed: Callable[[str, str], bool] | None) -> Callable[[Node, int], bool] | None:
    if allowed is None:
        return None
    return lambda node, key: allowed(node.name, partition_key(node.grain, key))


def _counted(name: str, compute: Any, log: Log) -> Any:
    def counted(batch: Any) -> Iterator[Any]:
        for key, made in compute(batch):
            log.cross()
            if not isinstance(made, DamagedObject):
                log.called.append((name, key))
            yield key, made

    return counted


_versions: dict[tuple[int, ...], str] = {}


def version_of(rows: tuple[int, ...]) -> str:
    """The data version of a table of these numbers."""
    if rows not in _versions:
        _versions[rows] = data_version(pl.DataFrame({"x": rows}, schema={"x": pl.Int64}))
    return _versions[rows]
