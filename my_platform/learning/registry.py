"""Models in MLflow's registry: a version for each candidate, with aliases for the ones that matter.

The registry shows; the promotion ledger decides. MLflow sets an alias without looking at what it was, so the
aliases are written from the ledger, after it and under a lock, and set right again by whoever comes next.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from my_platform.errors import PlatformError
from my_platform.learning.bundle import read_bundle
from my_platform.learning.ledger import Line, PromotionLedger, now
from my_platform.learning.registry_place import RegistryPlace
from my_platform.learning.tracking import Tracker
from my_platform.settings import Settings
from my_platform.storage.landing import day_to_come
from my_platform.storage.places import LandingPlace

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

_METRICS = "metrics"
_JSON_TAGS = ("code", _METRICS, "tested", "measured")


@dataclass(frozen=True)
class Candidate:
    """What identifies a model among those of a use."""

    use: str
    model: str
    week: str
    version: str
    recipe: str


@dataclass(frozen=True)
class Registered:
    """A version of the registry.

    Attributes:
        card: its model card, Markdown.
        facts: what was registered of it: digests, data versions, metrics, the path of its report.
    """

    candidate: Candidate
    number: str
    run_id: str
    card: str = ""
    aliases: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


class Registry:
    """The registered models of a home, with the ledger and the bundles that say what serves.

    Args:
        place: of the ledger and the bundles.
        tracker: the MLflow store; MLflow is imported when it is first asked.
        promotes: whether a run promotes by the gate, or only a person does.
    """

    def __init__(self, place: RegistryPlace, tracker: Tracker, *, promotes: bool = True) -> None:
        self.place = place
        self.tracker = tracker
        self.promotes = promotes

    @classmethod
    def of(cls, settings: Settings) -> "Registry":
        """The registry that the settings name."""
        return cls(RegistryPlace.of(settings), Tracker.of(settings), promotes=settings.promote == "gate")

    @cached_property
    def ledger(self) -> PromotionLedger:
        return self.place.promotions()

    @property
    def bundles(self) -> Path:
        return self.place.bundles

    def register(self, candidate: Candidate, run_id: str, facts: Mapping[str, Any], card: str) -> Registered:
        """Register a candidate; one that is registered keeps its version and gets these facts and this card."""
        client = self.tracker.client
        with self.tracker.alone():
            found = self._find(client, candidate)
            if found is None or found.tags["recipe"] != candidate.recipe:
                self._make_model(client, candidate.use)
                artifacts = client.get_run(run_id).info.artifact_uri
                found = client.create_model_version(
                    candidate.use,
                    f"{artifacts}/model",
                    run_id=run_id,
                    tags={**_identity(candidate), "recipe": candidate.recipe, **_as_tags(facts)},
                    description=card,
                )
            else:
                self._change(client, found, facts, card)
            return _registered(found, {})

    def tell(self, registered: Registered, facts: Mapping[str, Any], card: str | None = None) -> None:
        """Add facts to a version, and replace its card where one is given."""
        client = self.tracker.client
        with self.tracker.alone():
            found = client.get_model_version(registered.candidate.use, registered.number)
            self._change(client, found, facts, found.description if card is None else card)

    def find(self, candidate: Candidate) -> Registered | None:
        """The latest version of a candidate, by whatever recipe; None where it is not registered."""
        if self.tracker.is_empty:
            return None
        found = self._find(self.tracker.client, candidate)
        return _registered(found, {}) if found is not None else None

    def versions(self, use: str) -> list[Registered]:
        """All versions of a use with their aliases, the latest registered first."""
        if self.tracker.is_empty:
            return []
        from mlflow.exceptions import MlflowException

        try:
            model = self.tracker.client.get_registered_model(use)
        except MlflowException:
            return []
        aliases: dict[str, list[str]] = {}
        for alias, number in model.aliases.items():
            aliases.setdefault(str(number), []).append(alias)
        found = self.tracker.client.search_model_versions(f"name = '{use}'")
        ordered = sorted(found, key=lambda version: int(version.version), reverse=True)
        return [_registered(version, aliases) for version in ordered]

    def roll_back(self, use: str, *, who: str, why: str, place: LandingPlace | None = None) -> Line:
        """Make the former champion the champion again, and return the line that says so.

        Args:
            place: landing, by whose last day the line tells from which day on it counts.

        Only the ledger and the former bundle are read; MLflow's aliases follow with ``set_aliases``.

        Raises:
            PlatformError: there is no former champion.
            DamagedBundle: its bundle is not whole, so it cannot serve.
        """
        while True:
            standing = self.ledger.standing(use)
            champion, previous = standing.champion, standing.previous
            if champion is None or previous is None:
                found = (
                    f"{champion.model} {champion.week} is the first" if champion else "there is no champion"
                )
                raise PlatformError(f"{use} cannot go back to a former champion: {found}")
            rows = read_bundle(self.bundles, previous.bundle).about.get("rows", "")
            from_day = day_to_come(place, rows) if place is not None else ""
            line = Line(now(), who, "rollback", use, why, champion, previous, from_day=from_day)
            if self.ledger.append(line, standing):
                return line

    def set_aliases(self, use: str, challenger: str | None = None) -> None:
        """Point ``champion`` and ``previous`` to what the ledger says, and ``challenger`` to a version.

        Args:
            challenger: the number of a version; None leaves the alias as it is.
        """
        if self.tracker.is_empty:
            return
        from mlflow.exceptions import MlflowException

        client = self.tracker.client
        with self.tracker.alone():
            try:
                current = {k: str(v) for k, v in client.get_registered_model(use).aliases.items()}
            except MlflowException:
                return
            standing = self.ledger.standing(use)
            champion, previous = standing.champion, standing.previous
            wanted = {
                "champion": champion.number if champion else "",
                "previous": previous.number if previous else "",
                "challenger": current.get("challenger", "") if challenger is None else challenger,
            }
            # Who serves challenges nobody.
            if wanted["challenger"] == wanted["champion"]:
                wanted["challenger"] = ""
            for alias, number in wanted.items():
                if number and current.get(alias) != number:
                    client.set_registered_model_alias(use, alias, number)
                elif not number and alias in current:
                    client.delete_registered_model_alias(use, alias)

    def _change(
        self, client: "MlflowClient", found: "ModelVersion", facts: Mapping[str, Any], card: str
    ) -> None:
        for name, value in _as_tags(facts).items():
            if found.tags.get(name) != value:
                client.set_model_version_tag(found.name, str(found.version), name, value)
        if found.description != card:
            client.update_model_version(found.name, str(found.version), card)

    def _find(self, client: "MlflowClient", candidate: Candidate) -> "ModelVersion | None":
        where = [f"name = '{candidate.use}'"]
        where += [f"tags.{name} = '{value}'" for name, value in _identity(candidate).items()]
        found = client.search_model_versions(" and ".join(where))
        return max(found, key=lambda version: int(version.version)) if found else None

    def _make_model(self, client: "MlflowClient", use: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            client.get_registered_model(use)
        except MlflowException:
            client.create_registered_model(use)


def _identity(candidate: Candidate) -> dict[str, str]:
    return {
        "model": candidate.model,
        "week": candidate.week,
        "data_version": candidate.version,
    }


def _as_tags(facts: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: json.dumps(value, sort_keys=True) if name in _JSON_TAGS else str(value)
        for name, value in facts.items()
    }


def _registered(version: "ModelVersion", aliases: Mapping[str, list[str]]) -> Registered:
    tags = version.tags
    facts = {name: json.loads(value) if name in _JSON_TAGS else value for name, value in tags.items()}
    candidate = Candidate(version.name, tags["model"], tags["week"], tags["data_version"], tags["recipe"])
    number = str(version.version)
    card = version.description or ""
    return Registered(candidate, number, version.run_id, card, tuple(sorted(aliases.get(number, ()))), facts)
