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
            *(
                []
                if list(report.outcome.failed) == [self.asset]
                else [f"only {self.asset} fails: {report.problems}"]
            ),
            *_kept(scene, after, () if self.asset.startswith("raw/") else ("raw/", "unknown_")),
            *([] if again.runs == 0 and again.problems == report.problems else ["said again without a run"]),
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
            *([] if report.problems == [] else [f"nothing is refused: {report.problems}"]),
            *(
                []
                if len(found) == len(bad) == self.rows
                else [f"{self.rows} rows by {self.rule}, found {bad}"]
            ),
            *([] if all(row.get("file", file) == file for row in bad) else ["the file"]),
            *(
                []
                if twice or not {*below["TRANSACTION_ID"]} & {r["TRANSACTION_ID"] for r in bad}
                else ["no bad row below"]
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
            *([] if unfinished == [path] else [f"{path} is waited for"]),
            *([] if not owed else [f"nothing is owed: {owed}"]),
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
            *(
                []
                if report.outcome.computed == {self.asset: [scene.day]}
                else [f"only it: {report.outcome.computed}"]
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
            *([] if report.problems == [] else [f"nothing is refused: {report.problems}"]),
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
            *([f"nothing is computed: {computed}"] if computed else []),
        ]
        return Verdict(gap.detected, "healed when it lands, without computing", gap.message, tuple(missing))


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
            failed = failed_checks(session, scene.day)
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


def failed_checks(session: Session, partition: str) -> dict[str, str]:
    """The asset checks that failed for a partition at its last evaluation, with what they said."""
    return {}


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
