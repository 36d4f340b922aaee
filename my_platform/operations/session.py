"""One command's view of a home: the workspace, the Dagster instance and the job over all assets."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg

from my_platform.errors import PlatformError
from my_platform.learning.contender import Contender
from my_platform.operations.analysts import keep_current
from my_platform.operations.candidates import kept, switch
from my_platform.operations.heads import DagsterHeads
from my_platform.operations.home import (
    open_heads,
    open_instance,
    open_registry,
    open_workspace,
    place_of,
    prepare_domains,
    prepare_home,
)
from my_platform.operations.jobs import launch_here, refresh_job
from my_platform.operations.models import Models
from my_platform.operations.orphans import end_orphans
from my_platform.operations.platform import Workspace, check_key
from my_platform.operations.quality_report import Standing, standing
from my_platform.operations.quarantine import Chosen, Word, bad_rows, decided, release, undo
from my_platform.operations.refresh import Report, look_ahead, refresh
from my_platform.operations.retention import Collected, collect
from my_platform.operations.selection import allow
from my_platform.settings import Settings
from my_platform.storage.backfill_book import BackfillBook
from my_platform.storage.lake import ABSENT, json_in


@dataclass(frozen=True)
class Evaluated:
    """The figures of a week, as its evaluation keeps them, and the model asset that they are of."""

    contender: Contender
    figures: dict[str, Any]


@dataclass
class Session:
    """What a command works with."""

    settings: Settings
    workspace: Workspace
    instance: dg.DagsterInstance
    heads: DagsterHeads

    @cached_property
    def definitions(self) -> dg.Definitions:
        from my_platform.definitions import build_definitions

        return build_definitions(self.settings, self.workspace)

    @cached_property
    def models(self) -> Models:
        """The models of the home: who may become champion, and who is."""
        return Models(self.workspace, self.heads, open_registry(self.settings))

    def refresh(
        self,
        *,
        select: str | None = None,
        first: date | None = None,
        through: date | None = None,
        retry: bool = False,
        verify: bool = False,
        on_plan: Callable[[int], None] = lambda _: None,
        on_partition: Callable[[str, str, str], None] | None = None,
    ) -> Report:
        """Bring the selected assets and days up to date; see ``operations.refresh``."""
        if "://" not in self.settings.landing and not any(Path(self.settings.landing).glob("*")):
            raise PlatformError(
                f"nothing has landed in {self.settings.landing}. Drop files there, or have a command of the "
                "domain land some, such as `my-platform simulate --days 90`"
            )
        end_orphans(self.instance)
        job = refresh_job(self.workspace, place_of(self.settings))
        report = refresh(
            self.workspace,
            self.heads,
            lambda order: launch_here(job, self.instance, order),
            allowed=allow(
                self.selected(select, "--select ") if select else None, self.workspace.project, first, through
            ),
            retry=retry,
            verify=verify,
            on_plan=on_plan,
            on_partition=on_partition,
        )
        keep_current(self.workspace, self.heads, self.settings.analysts_database)
        return report

    def switch(self, book: BackfillBook, name: str) -> Report:
        """Make the values of a candidate current; see ``operations.candidates``."""
        end_orphans(self.instance)
        job = refresh_job(self.workspace, place_of(self.settings))
        report = switch(
            self.workspace, self.heads, book, name, lambda order: launch_here(job, self.instance, order)
        )
        keep_current(self.workspace, self.heads, self.settings.analysts_database)
        return report

    def collect(self, *, keep_days: int, dry_run: bool) -> Collected:
        """Remove old values that no head, model, report or candidate refers to; see ``operations.retention``."""
        book = BackfillBook(self.settings.backfills)
        return collect(self.workspace, self.versions(), keep_days=keep_days, dry_run=dry_run, also=kept(book))

    def versions(self) -> dict[str, dict[str, str]]:
        """Data version by partition by asset, of what is current."""
        names = [node.name for node in self.workspace.project.order]
        found: dict[str, dict[str, str]] = {}
        for name, heads in self.heads.read(names).items():
            found[name] = {
                key: version
                for key, version in sorted(heads.items())
                if version != ABSENT and self.workspace.lake.index.find(name, key, version)
            }
        return dict(sorted(found.items()))

    def evaluation(self, week: str | None) -> dict[str, Any]:
        """The figures of a week of the first model, of the last evaluated one where none is named."""
        return self.evaluated(week).figures

    def evaluated(self, week: str | None, use: str | None = None) -> Evaluated:
        """The figures of a week, of the last evaluated one where none is named.

        Args:
            use: what the model is for; where none is named, that of the first model.

        Raises:
            PlatformError: there is no such use, or the week has not been evaluated.
        """
        contenders = [c for c in self.models.contenders.values() if use in (None, c.use)]
        if not contenders:
            known = ", ".join(self.models.uses) or "none"
            raise PlatformError(f"no model is for {use or 'anything'}; uses are: {known}")
        contender = contenders[0]
        heads = self.versions().get(contender.evaluation, {})
        if not heads:
            raise PlatformError("no week has been evaluated; run `my-platform refresh` first")
        week = week or max(heads)
        if week not in heads:
            raise PlatformError(
                f"the week {week} has not been evaluated; there are {min(heads)} to {max(heads)}, on Wednesdays"
            )
        figures = json_in(self.workspace.lake.read(contender.evaluation, week, heads[week]), "metrics.json")
        assert isinstance(figures, dict)
        return Evaluated(contender, figures)

    def quarantined(
        self, asset: str | None, partition: str | None
    ) -> dict[str, dict[str, list[dict[str, Any]]]]:
        """Rows in quarantine by asset and partition: of what is current, and of what was refused."""
        found: dict[str, dict[str, list[dict[str, Any]]]] = {}
        for bad in bad_rows(self.workspace, self.heads, self.versions(), asset, partition):
            found.setdefault(bad.asset, {})[bad.partition] = bad.as_json()
        return found

    def checks(self, asset: str | None = None, partition: str | None = None) -> Standing:
        """The results of checks by validated table and partition, with what was refused and what is missing.

        Raises:
            PlatformError: the asset is no checked table, or the partition is none of it or has no results.
        """
        planned = look_ahead(self.workspace, self.heads)
        found = standing(self.workspace, self.heads, planned)
        if asset is not None and asset not in found:
            raise PlatformError(
                f"{asset} has no checks; there are some on {', '.join(sorted(found)) or 'no asset'}"
            )
        found = {name: rows for name, rows in found.items() if asset in (None, name)}
        if partition is None:
            return found
        if asset is not None:
            check_key(self.workspace.project.assets[asset], partition)
        found = {name: {partition: rows[partition]} for name, rows in found.items() if partition in rows}
        if not found:
            raise PlatformError(
                f"{asset or 'no asset'} has no results of checks for {partition}; run `my-platform refresh`"
            )
        return found

    def release(self, asset: str, partition: str, chosen: Chosen, word: Word) -> dict[str, Any]:
        """Let rows of a partition's quarantine in; see ``operations.quarantine``."""
        for bad in bad_rows(self.workspace, self.heads, self.versions(), asset, partition):
            return release(self.workspace, bad, chosen, word)
        raise PlatformError(f"no row of {asset} {partition} is in quarantine, so there is none to let in")

    def undo(self, asset: str, partition: str, word: Word) -> dict[str, Any]:
        """Take the releases of a partition back."""
        return undo(self.workspace, asset, partition, word)

    def decided(self, asset: str | None, partition: str | None) -> list[dict[str, Any]]:
        """The decisions that people made about rows."""
        return decided(self.workspace, asset, partition)

    def selected(self, select: str, option: str = "") -> set[str]:
        """The assets of a list of names, or of a selection in Dagster's words; ``option`` is where it was given."""
        names = {name.strip() for name in select.split(",")}
        if names <= self.workspace.project.assets.keys():
            return names
        known = (
            "Give names with commas between them, or a selection such as group:features or +key:predictions. "
            f"There are {', '.join(sorted(self.workspace.project.assets))}"
        )
        try:
            with warnings.catch_warnings():
                # Groups in a selection are marked so, and have been for years.
                warnings.simplefilter("ignore", dg.BetaWarning)
                selection = dg.AssetSelection.from_string(select)
                keys = selection.resolve(self.definitions.resolve_asset_graph())
        except Exception as error:
            raise PlatformError(f"{option}{select}: {str(error).splitlines()[0]} {known}") from error
        if not keys:
            raise PlatformError(f"{option}{select} selects no asset. {known}")
        return {key.to_user_string() for key in keys}


@contextmanager
def opened(settings: Settings) -> Iterator[Session]:
    """A session on the home that the settings name."""
    prepare_home(settings)
    prepare_domains(settings)
    workspace = open_workspace(settings)
    with open_instance(settings) as instance:
        yield Session(settings, workspace, instance, open_heads(settings, workspace, instance))
