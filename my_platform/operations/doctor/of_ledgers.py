"""Checks of what people decided: the ledgers of promotions and thresholds, and the bundles of those who serve."""

from collections.abc import Iterator

from my_platform.errors import DamagedBundle
from my_platform.learning.bundle import read_bundle
from my_platform.learning.ledger import PromotionLedger, Served
from my_platform.learning.threshold_ledger import ThresholdLedger
from my_platform.operations.doctor.findings import Told, ok, problem, warning
from my_platform.settings import Settings
from my_platform.storage.appended import AppendedLines


def ledgers(settings: Settings) -> Iterator[Told]:
    """Whether every line can be read, and each promotion knew of the one before it."""
    promotions = PromotionLedger(settings.registry / "promotions.jsonl")
    thresholds = ThresholdLedger(settings.registry)
    lines = 0
    for use in promotions.uses():
        serving: list[Served] = []
        for number, line in enumerate(promotions.lines(use), 1):
            lines += 1
            known = serving[-1] if serving else None
            if line.before != known:
                told = f"{line.before.model} {line.before.week}" if line.before else "no champion"
                yield problem(
                    f"line {number} of {use} in {promotions.path} replaced {told}, which did not serve then",
                    "a line was lost or edited: put the file back from a backup",
                )
                return
            if line.action == "rollback":
                serving = serving[:-1]
            else:
                serving.append(line.after)
        thresholds.lines(use)
    for path in (promotions.path, thresholds.path):
        lines += sum(1 for _ in AppendedLines(path).read()) if path == thresholds.path else 0
        if path.exists() and (data := path.read_bytes()) and not data.endswith(b"\n"):
            yield warning(
                f"{path} ends within a line, which a dying machine did not finish and which never counted",
                "the next line that is written takes its place",
            )
    yield ok(f"{lines} lines of promotions and thresholds follow from one another")


def bundles(settings: Settings) -> Iterator[Told]:
    """Whether the bundles of the champions, and of those that a rollback goes back to, are whole."""
    ledger = PromotionLedger(settings.registry / "promotions.jsonl")
    uses = ledger.uses()
    if not uses:
        yield ok("no model was ever promoted")
    for use in uses:
        standing = ledger.standing(use)
        for served, role in ((standing.champion, "champion"), (standing.previous, "previous champion")):
            if served is None:
                continue
            named = f"the {role} of {use}, {served.model} {served.week}"
            try:
                read_bundle(settings.registry / "bundles", served.bundle)
            except DamagedBundle as error:
                told = f"{named}: {error}"
                yield (
                    problem(told, f"run `my-platform promote {served.model}@{served.week}`")
                    if role == "champion"
                    else warning(told, "a rollback to it will be refused; put the bundle back from a backup")
                )
            else:
                yield ok(f"{named}: every byte of its bundle is what was promoted")
