"""Where a fault is to be detected, and what must hold when it was: each expectation judges a home."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from assets_tests.faults.scene import Scene
from my_platform.incremental.planner import Action
from my_platform.operations.forecast import forecast
from my_platform.operations.refresh import Report, look_ahead
from my_platform.operations.session import Session


@dataclass(frozen=True)
class Verdict:
    """What became of a fault: where it was detected, whether it was contained, and the words that were said."""

    detected: str
    contained: str
    message: str
    missing: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        return not self.missing


class Expectation(Protocol):
    """Where and how a fault is to be detected."""

    where: str

    def judge(self, scene: Scene) -> Verdict: ...


@dataclass(frozen=True)
class Refusal:
    """The partition is refused as a whole; its last good version stays, and nothing is computed on the new one.

    Attributes:
        asset: what refuses it.
        says: what the message says besides file and partition, such as the column.
        path: the file that it names; the day's transactions by default.
    """

    asset: str
    says: tuple[str, ...] = ()
    path: str = ""
    partition: str | None = None

    @property
    def where(self) -> str:
        return f"{self.asset}, refused"

    def judge(self, scene: Scene) -> Verdict:
        partition = scene.day if self.partition is None else self.partition
        with scene.session() as session:
            report = session.refresh()
            after, again = session.versions(), session.refresh()
        message = report.outcome.failed.get(self.asset, {}).get(partition, "")
        path = f"{scene.landing}/{self.path or f'transactions/{partition}.parquet'}"
        missing = [
            *_words(message, (f"{self.asset} {partition}".strip(), path, *self.says)),
            *_unless(
                list(report.outcome.failed) == [self.asset], f"only {self.asset} fails: {report.problems}"
            ),
            *_kept(scene, after, () if self.asset.startswith("raw/") else ("raw/", "unknown_")),
            *_unless(again.runs == 0 and again.problems == report.problems, "said again without a run"),
        ]
        detected = self.where if message else "nowhere"
        return Verdict(detected, "last good version stays, nothing committed", message, tuple(missing))


@dataclass(frozen=True)
class Quarantine:
    """Single rows are kept out; everything else of the delivery goes on."""

    rule: str
    column: str
    rows: int
    asset: str = "validated/transactions"

    @property
    def where(self) -> str:
        return f"{self.asset}, rows in quarantine"

    def judge(self, scene: Scene) -> Verdict:
        with scene.session() as session:
            report = session.refresh()
            bad = session.quarantined(self.asset, scene.day).get(self.asset, {}).get(scene.day, [])
            found = [row for row in bad if row["rule"] == self.rule and row["column"] == self.column]
            version = session.versions()["customer_spending"][scene.day]
            below = session.workspace.lake.read("customer_spending", scene.day, version)
        file = f"{scene.transactions}"
        twice = self.rule == "repeated_row"
        missing = [
            *_unless(report.problems == [], f"nothing is refused: {report.problems}"),
            *_unless(len(found) == len(bad) == self.rows, f"{self.rows} rows by {self.rule}, found {bad}"),
            *_unless(all(row.get("file", file) == file for row in bad), "the file"),
            *_unless(
                twice or not {*below["TRANSACTION_ID"]} & {r["TRANSACTION_ID"] for r in bad},
                "no bad row below",
            ),
        ]
        message = ""
        if bad:
            where = f", {bad[0]['file']} row {bad[0]['row_number']}" if "file" in bad[0] else ""
            message = f"{self.asset} {scene.day}{where}: {bad[0]['reason']}"
        detected = self.where if bad else "nowhere"
        return Verdict(detected, "bad rows kept out, the others go on", message, tuple(missing))


@dataclass(frozen=True)
class Unusable:
    """What lies in landing belongs to no partition: it is named, exit code 1, and all else is as it was."""

    says: tuple[str, ...]
    where: str = "landing"

    def judge(self, scene: Scene) -> Verdict:
        with scene.session() as session:
            report = session.refresh()
            after = session.versions()
        message = "; ".join(report.unusable.values())
        missing = [*_words(message, self.says), *_kept(scene, after), *_nothing_else(report)]
        return Verdict("landing" if message else "nowhere", "never followed or read", message, tuple(missing))


@dataclass(frozen=True)
class Waits:
    """A file that is still being written has not landed: what it said before counts."""

    where: str = "landing, waits"

    def judge(self, scene: Scene) -> Verdict:
        with scene.session(quiet_s=3600) as session:
            planned = look_ahead(session.workspace, session.heads)
            unfinished = list(session.workspace.landed["transactions"].unfinished)
        path = f"transactions/{scene.day}.parquet"
        owed = [(e.asset, e.action) for e in planned.entries if e.action is not Action.WAITING]
        missing = [
            *_unless(unfinished == [path], f"{path} is waited for"),
            *_unless(not owed, f"nothing is owed: {owed}"),
        ]
        detected = self.where if unfinished else "nowhere"
        return Verdict(detected, "what it said before counts", "; ".join(unfinished), tuple(missing))


@dataclass(frozen=True)
class Healed:
    """A damaged value is noticed before it is used, named, and computed again."""

    asset: str
    where: str = "storage, on reading"

    def judge(self, scene: Scene) -> Verdict:
        with scene.session() as session:
            report = session.refresh(verify=True)
            after = session.versions()
        message = "; ".join(report.damaged)
        missing = [
            *_words(message, (f"{scene.home}/lake/{self.asset}/{scene.day}/",)),
            *_unless(
                report.outcome.computed == {self.asset: [scene.day]}, f"only it: {report.outcome.computed}"
            ),
            *_kept(scene, after),
        ]
        return Verdict(
            self.where if message else "nowhere", "that partition is computed again", message, tuple(missing)
        )


@dataclass(frozen=True)
class Gap:
    """A day that is missing is withdrawn and named by what waits for it; everything else stands."""

    table: str = "transactions"
    where: str = "plan, waiting"

    def judge(self, scene: Scene) -> Verdict:
        with scene.session() as session:
            report = session.refresh()
            after = session.versions()
            waiting = forecast(session.workspace, session.heads).as_json()["waiting"]
        told = {asset: found[scene.day] for asset, found in waiting.items() if scene.day in found}
        message = told.get(f"raw/{self.table}", "")
        missing = [
            *_unless(report.problems == [], f"nothing is refused: {report.problems}"),
            *_words(message, (self.table, scene.day)),
            *(
                f"no {a} {scene.day}"
                for a in (f"raw/{self.table}", f"validated/{self.table}")
                if scene.day in after[a]
            ),
        ]
        return Verdict(
            self.where if message else "nowhere",
            "withdrawn, readers wait or pass over it",
            message,
            tuple(missing),
        )


@dataclass(frozen=True)
class Late:
    """A file is missing at first and named; when it lands, all is as if it had never been late."""

    table: str
    where: str = "plan, waiting"

    def judge(self, scene: Scene) -> Verdict:
        gap = Gap(self.table).judge(scene)
        (scene.home / "late.parquet").rename(scene.table(self.table))
        with scene.session() as session:
            report = session.refresh()
            after = session.versions()
        computed = report.outcome.computed
        missing = [
            *gap.missing,
            *_kept(scene, after),
            *_unless(not computed, f"nothing is computed: {computed}"),
        ]
        return Verdict(gap.detected, "healed when it lands, without computing", gap.message, tuple(missing))


@dataclass(frozen=True)
class Guarded:
    """A guard of what is learned from refuses weeks; the model, or the scores, of those weeks stay as they were.

    Attributes:
        asset: what refuses.
        check: the guard that tells it.
        says: what the message says besides, such as the column.
    """

    asset: str
    check: str
    says: str

    @property
    def where(self) -> str:
        return f"{self.asset}, guard"

    def judge(self, scene: Scene) -> Verdict:
        with scene.session() as session:
            report = session.refresh()
            after = session.versions()
        failed = report.outcome.failed.get(self.asset, {})
        week = max(failed, default="")
        message = failed.get(week, "")
        kept = "predictions" if self.asset == "predictions" else "fraud_lightgbm"
        # A training set that stays the last good one differs from what is replayed on the corrected day.
        # A model is not fitted on what was not replayed.
        told = {
            "training_set": {self.asset, "training_set_replay"},
            "training_set_replay": {self.asset, "fraud_lightgbm"},
        }.get(self.asset, {self.asset})
        changed = [w for w in failed if after[kept].get(w) != scene.before[kept].get(w)]
        missing = [
            *_words(message, (f"{self.asset} {week}", self.check, self.says)),
            *_unless({*report.outcome.failed} <= told, f"only {self.asset} fails: {report.problems}"),
            *_unless(not changed, f"{kept} of {changed} as before"),
        ]
        detected = self.where if message else "nowhere"
        return Verdict(detected, f"the last good {kept} of those weeks stay", message, tuple(missing))


@dataclass(frozen=True)
class Check:
    """The delivery keeps its contract; a check over the day's statistics tells it.

    Attributes:
        names: checks that tell it, one of which must.
    """

    names: tuple[str, ...]
    column: str = ""

    @property
    def where(self) -> str:
        return f"check: {' or '.join(self.names)}"

    def judge(self, scene: Scene) -> Verdict:
        with scene.session() as session:
            session.refresh()
            failed = failed_checks(session).get(scene.day, {})
        found = {name: words for name, words in failed.items() if name in self.names}
        message = "; ".join(found.values())
        missing = (
            _words(message, (self.column,))
            if found
            else [f"one of {self.names}, failed are {sorted(failed)}"]
        )
        return Verdict(
            f"check: {', '.join(found)}" if found else "nowhere", "told by the check", message, tuple(missing)
        )


def failed_checks(session: Session) -> dict[str, dict[str, str]]:
    """What Dagster shows as failed of the landed tables, by partition and check, with what was said."""
    storage = session.instance.event_log_storage
    keys = [
        key
        for key in session.definitions.resolve_asset_graph().asset_check_keys
        if key.asset_key.path[0] in ("raw", "validated")
    ]
    found: dict[str, dict[str, str]] = {}
    for info in storage.get_asset_check_partition_info(keys):
        if info.is_current and info.latest_execution_status.value == "FAILED":
            history = storage.get_asset_check_execution_history(info.check_key, limit=10_000)
            evaluation = next(r.evaluation for r in history if r.partition == info.partition_key)
            assert evaluation is not None
            name = f"{info.check_key.asset_key.to_user_string()} {info.partition_key or ''}".strip()
            said = found.setdefault(info.partition_key or "", {})
            said[info.check_key.name] = f"{name}: {evaluation.description}"
    return found


def _unless(holds: bool, words: str) -> list[str]:
    return [] if holds else [words]


def _words(message: str, words: Collection[str]) -> list[str]:
    return [f"says {word!r}" for word in words if word not in message]


def _kept(scene: Scene, after: object, touched: tuple[str, ...] = ()) -> list[str]:
    """Assets whose versions are not those of before."""
    assert isinstance(after, dict)
    return [
        f"{name} as before"
        for name, found in scene.before.items()
        if found != after.get(name) and not name.startswith(touched)
    ]


def _nothing_else(report: Report) -> list[str]:
    computed = report.outcome.computed
    return [f"nothing is computed: {computed}"] if computed or report.outcome.failed else []
