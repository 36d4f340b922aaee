"""The models of a home: which there are, what they are called, and who serves."""

import math
from collections.abc import Mapping
from typing import Any

from my_platform.errors import DamagedBundle, PlatformError
from my_platform.incremental.declare import Publication, ordinal
from my_platform.learning.bundle import read_bundle
from my_platform.learning.contender import Contender
from my_platform.learning.ledger import Served, standing_of
from my_platform.learning.registry import Candidate, Registered, Registry
from my_platform.operations.outcome import Heads
from my_platform.operations.platform import Workspace
from my_platform.operations.weekly_tests import WeeklyTests

ALIASES = ("champion", "challenger", "previous")


class Models:
    """The contenders of a project as they are fitted, registered and served."""

    def __init__(self, workspace: Workspace, heads: Heads, registry: Registry) -> None:
        self.workspace = workspace
        self.registry = registry
        self.weekly = WeeklyTests(workspace, heads)
        self.contenders: Mapping[str, Contender] = {c.model: c for c in workspace.project.contenders}

    def contender(self, model: str) -> Contender:
        """The contender of a model asset.

        Raises:
            PlatformError: no domain declares it as one.
        """
        if model not in self.contenders:
            known = ", ".join(sorted(self.contenders)) or "none"
            raise PlatformError(f"{model} is no model that can become champion; there are {known}")
        return self.contenders[model]

    def candidate(self, model: str, week: str | None = None) -> Candidate:
        """The current model of a week, the latest one where none is named.

        Raises:
            PlatformError: there is none.
        """
        contender = self.contender(model)
        found = self.weekly.current(model)
        if not found:
            raise PlatformError(f"{model} has not been fitted yet; run `my-platform refresh` first")
        week = week or max(found)
        if week not in found:
            raise PlatformError(
                f"{model} has no model of the week {week}; there are {min(found)} to {max(found)}, on Wednesdays"
            )
        return Candidate(contender.use, model, week, found[week], self.weekly.recipe(model))

    def named(self, name: str) -> Candidate:
        """The model of a name: an alias, an asset for its latest week, or `ASSET@WEEK`.

        Raises:
            PlatformError: there is none, or several uses have such an alias.
        """
        if name not in ALIASES:
            model, _, week = name.partition("@")
            return self.candidate(model, week or None)
        found = [of_use[name] for use in self.uses if name in (of_use := self.aliases(use))]
        if len(found) != 1:
            told = "no model is" if not found else f"models of {', '.join(f.use for f in found)} are"
            raise PlatformError(f"{told} {name}; name one as ASSET@WEEK, as `my-platform models` lists them")
        return found[0]

    def current(self, candidate: Candidate) -> Candidate:
        """The same model, if it is what its week has now.

        Raises:
            PlatformError: its week has another model since.
        """
        now = self.candidate(candidate.model, candidate.week)
        if now.version != candidate.version:
            raise PlatformError(
                f"{candidate.model}@{candidate.week} was {candidate.version[:12]} and is {now.version[:12]} since a "
                f"correction; name it as {candidate.model}@{candidate.week} to take that one"
            )
        return now

    @property
    def uses(self) -> list[str]:
        """What there are models for."""
        return sorted({contender.use for contender in self.contenders.values()})

    def served(self, candidate: Candidate) -> Served | None:
        """The model as it became champion, if it ever did."""
        wanted = (candidate.model, candidate.week, candidate.version)
        found = None
        for line in self.registry.ledger.lines(candidate.use):
            if (line.after.model, line.after.week, line.after.version) == wanted:
                found = line.after
        return found

    def aliases(self, use: str) -> dict[str, Candidate]:
        """Who is champion and previous by the ledger, and challenger by the registry."""
        standing = self.registry.ledger.standing(use)
        served = {"champion": standing.champion, "previous": standing.previous}
        found = {
            alias: Candidate(use, of.model, of.week, of.version, of.recipe)
            for alias, of in served.items()
            if of is not None
        }
        for registered in self.registry.versions(use):
            if "challenger" in registered.aliases:
                found["challenger"] = registered.candidate
        return found

    def latest(self, use: str) -> list[Candidate]:
        """The latest current model of each contender for a use, the best one first."""
        fitted = [c.model for c in self.contenders.values() if c.use == use and self.weekly.current(c.model)]
        found = [self.candidate(model) for model in fitted]
        if len(found) > 1:
            found.sort(key=lambda candidate: (candidate.week, self._rank(candidate)), reverse=True)
        return found

    def registered(self, candidate: Candidate) -> Registered | None:
        """The candidate's version in MLflow's registry; published anew where it is missing there."""
        found = self.registry.find(candidate)
        publish = self.workspace.project.assets[candidate.model].publish
        place = (candidate.model, candidate.week, candidate.version)
        record = self.workspace.lake.record(*place)
        if found is None and publish is not None and record is not None:
            code = self.workspace.project.code_of(candidate.model)
            table, record_of = self.workspace.lake.read(*place), self.workspace.lake.record
            reason = self.workspace.why_fitted(candidate.model, ordinal(candidate.week))
            publish(Publication(candidate.model, candidate.week, table, record, record_of, code, reason))
            found = self.registry.find(candidate)
        return found

    def overview(self) -> dict[str, Any]:
        """By use: all registered models, and the assets whose code is not the one the champion was made by."""
        found: dict[str, Any] = {}
        lines = self.registry.ledger.by_use()
        for use in self.uses:
            champion = standing_of(lines.get(use, ())).champion
            found[use] = {
                "champion": f"{champion.model}@{champion.week}" if champion else None,
                "bundle": champion.bundle if champion else None,
                "other_code": self._other_code(champion) if champion else [],
                "models": [_told(registered) for registered in self.registry.versions(use)],
            }
        return {"uses": found}

    def _other_code(self, champion: Served) -> list[str]:
        try:
            bundle = read_bundle(self.registry.bundles, champion.bundle)
        except DamagedBundle as error:
            return [str(error)]
        return bundle.other_code(self.workspace.project.code_versions)

    def _rank(self, candidate: Candidate) -> float:
        """How good a model is over the weekly tests that the gate would look at: the higher, the better."""
        contender = self.contender(candidate.model)
        tests = self.weekly.of_recipe(contender, candidate.week)
        found = []
        for week in sorted(tests)[-contender.policy.weeks :]:
            rows = self.weekly.rows(contender, week, tests[week])
            if contender.measure.tells(rows):
                found.append(contender.measure.rank(contender.measure.value(rows)))
        return sum(found) / len(found) if found else -math.inf


def _told(registered: Registered) -> dict[str, Any]:
    candidate, facts = registered.candidate, registered.facts
    return {
        "model": candidate.model,
        "week": candidate.week,
        "number": registered.number,
        "aliases": list(registered.aliases),
        "data_version": candidate.version,
        "recipe": candidate.recipe,
        "training_set_digest": facts.get("training_set_digest"),
        "metrics": facts.get("metrics", {}),
        "measured": facts.get("measured"),
        "gate": facts.get("gate", "not asked"),
        "report": facts.get("report"),
        "mlflow_run": registered.run_id,
        "card": registered.card,
    }
