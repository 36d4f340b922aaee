"""Checks of what was decided: ledgers of promotions and thresholds, weeks to fit, and the bundles of those who serve."""

from collections.abc import Iterator

from my_platform.errors import DamagedBundle, PlatformError
from my_platform.learning.bundle import read_bundle
from my_platform.learning.ledger import Served, standing_of
from my_platform.learning.registry_place import RegistryPlace
from my_platform.operations.doctor.findings import Told, ok, problem, warning
from my_platform.operations.doctor.of_storage import BRIEFLY
from my_platform.settings import Settings
from my_platform.storage.appended import AppendedLines
from my_platform.storage.places import open_place
from my_platform.storage.retraining import FOLDER, FitDecisions


def ledgers(settings: Settings) -> Iterator[Told]:
    """Whether every line can be read, and each promotion knew of the one before it."""
    place = RegistryPlace.of(settings, BRIEFLY)
    shared = place.compare()
    promotions, thresholds = place.copy.promotions(), place.copy.thresholds()
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
    if place.is_shared:
        yield ok(f"{shared} lines are those that {settings.bucket_url}/registry has for all machines")


def fit_decisions(settings: Settings) -> Iterator[Told]:
    """Whether every decision to fit a week can be read; one that cannot counts all the same."""
    place = open_place(settings.landing, BRIEFLY)
    decisions, known = FitDecisions(place), 0
    models = {path.rpartition("/")[0].removeprefix(f"{FOLDER}/") for path in place.below(FOLDER)}
    for model, weeks in decisions.weeks(sorted(models)).items():
        for week in sorted(weeks):
            known += 1
            try:
                decisions.about(model, week)
            except PlatformError as error:
                yield problem(str(error), "put the file back from a backup; until then its model stays")
    yield ok(f"{known} weeks are decided by retraining policies")


def bundles(settings: Settings) -> Iterator[Told]:
    """Whether the bundles of the champions, and of those that a rollback goes back to, are whole."""
    place = RegistryPlace.of(settings, BRIEFLY)
    by_use = place.promotions().by_use()
    if not by_use:
        yield ok("no model was ever promoted")
    for use, lines in by_use.items():
        standing = standing_of(lines)
        for served, role in ((standing.champion, "champion"), (standing.previous, "previous champion")):
            if served is None:
                continue
            named = f"the {role} of {use}, {served.model} {served.week}"
            try:
                read_bundle(place.bundles, served.bundle)
            except DamagedBundle as error:
                told = f"{named}: {error}"
                yield (
                    problem(told, f"run `my-platform promote {served.model}@{served.week}`")
                    if role == "champion"
                    else warning(told, "a rollback to it will be refused; put the bundle back from a backup")
                )
            else:
                yield ok(f"{named}: every byte of its bundle is what was promoted")
