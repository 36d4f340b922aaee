"""A home: the folder of one installation, and the workspace that runs in it."""

import contextlib
import importlib
import os
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from types import ModuleType

import dagster as dg

from my_platform.errors import HomeError, PlatformError
from my_platform.fetching.declaration import Source
from my_platform.incremental.declare import Asset, Grain, day_key
from my_platform.incremental.memory import Memory, resident_bytes
from my_platform.learning.contender import Contender
from my_platform.learning.registry import Registry
from my_platform.learning.registry_place import RegistryPlace
from my_platform.learning.retraining.policy import policy_of
from my_platform.operations.assets import Place
from my_platform.operations.event_log import stay_connected
from my_platform.operations.formats import bring_to_present, check_format
from my_platform.operations.heads import DagsterHeads
from my_platform.operations.platform import Project, Workspace
from my_platform.operations.profiles import export_for_dagster, settle_profile
from my_platform.operations.specs import Span
from my_platform.serving.declaration import Service
from my_platform.serving.label_landing import LandedLabels, land_labels
from my_platform.serving.log_landing import LandedLog, LoggedTable, land_log
from my_platform.settings import Settings
from my_platform.storage.bucket import Patience
from my_platform.storage.calendar import calendar_in
from my_platform.storage.lake import Lake
from my_platform.storage.landing import Landing, key_of
from my_platform.storage.limits import Limits
from my_platform.storage.objects import FolderStore, locked, open_store
from my_platform.storage.places import Unreadable, open_place
from my_platform.storage.trace_index import TraceIndex

FOLDERS = ("landing", "lake", "quarantine", "dagster", "mlflow", "registry", "reports")


def prepare_home(settings: Settings) -> None:
    """Make the folders of a home and its Dagster configuration, and migrate one that an older version made.

    Raises:
        HomeError: the home cannot be written, or a newer version made it.
    """
    try:
        check_format(settings.home)
        for name in FOLDERS:
            (settings.home / name).mkdir(parents=True, exist_ok=True)
        bring_to_present(settings.home)
        settle_profile(settings)
    except OSError as error:
        raise HomeError(
            f"the home {settings.home} cannot be used: {error.strerror} ({error.filename}). Give the user of this "
            "process the right to write there, or choose another folder with --home or MY_PLATFORM_HOME"
        ) from error
    if not os.access(settings.home, os.W_OK) or not os.access(settings.dagster_home, os.W_OK):
        raise HomeError(
            f"the home {settings.home} is read-only for this process. Give it the right to write there, or choose "
            "another folder with --home or MY_PLATFORM_HOME"
        )


def open_instance(settings: Settings) -> dg.DagsterInstance:
    """The Dagster instance of a home."""
    export_for_dagster(settings)
    # Two processes that make Dagster's tables at the same moment leave them unusable.
    with locked(settings.dagster_home / "open.lock"):
        instance = dg.DagsterInstance.get()
    stay_connected(instance)
    return instance


def load_project(settings: Settings) -> Project:
    """The assets of the domains that the settings name, and the models that may serve.

    Raises:
        PlatformError: a domain cannot be imported or gives no assets.
    """
    found: list[Asset] = []
    contenders: list[Contender] = []
    for name in settings.domains:
        module = _domain(name)
        if not hasattr(module, "assets"):
            raise PlatformError(f"the domain {name} has no function `assets(settings)` that gives its assets")
        found.extend(module.assets(settings))
        contenders.extend(module.contenders(settings) if hasattr(module, "contenders") else ())
    return Project.of(found, [_with_policy(contender, settings.retraining) for contender in contenders])


def _with_policy(contender: Contender, chosen: str) -> Contender:
    """A contender with the retraining policy that the settings choose.

    Raises:
        PlatformError: they name none.
    """
    if chosen == "declared":
        return contender
    try:
        return replace(contender, retraining=None if chosen == "always" else policy_of(chosen))
    except PlatformError as error:
        raise PlatformError(f"MY_PLATFORM_RETRAINING={chosen!r}: {error}") from None


def load_services(settings: Settings) -> list[Service]:
    """What the domains declare to be served."""
    found: list[Service] = []
    for name in settings.domains:
        module = _domain(name)
        found.extend(module.services(settings) if hasattr(module, "services") else ())
    return found


def load_logged(settings: Settings) -> list[LoggedTable]:
    """The prediction logs that the domains land as tables."""
    modules = load_domains(settings)
    return [each for module in modules if hasattr(module, "logged") for each in module.logged(settings)]


def load_sources(settings: Settings) -> list[Source]:
    """The databases and HTTP APIs that the domains have days fetched from."""
    modules = load_domains(settings)
    return [each for module in modules if hasattr(module, "sources") for each in module.sources(settings)]


def land_logs(settings: Settings) -> dict[str, LandedLog | LandedLabels]:
    """Land the finished and changed days of all prediction logs of a home, and of their labels, by landed table.

    Raises:
        PlatformError: landing is no folder, or a log cannot be landed; see ``serving.log_landing``.
    """
    if "://" in settings.landing:
        raise PlatformError(
            f"MY_PLATFORM_LANDING_URL is {settings.landing}; land the log into a folder and copy it there"
        )
    landing, bundles = Path(settings.landing), settings.registry / "bundles"
    labels = [service for service in load_services(settings) if service.labels.landed]
    return {
        **{
            each.table: land_log(settings.serving / each.use, landing, bundles, each)
            for each in load_logged(settings)
        },
        **{each.labels.landed: land_labels(settings.serving / each.use, landing, each) for each in labels},
    }


def prepare_domains(settings: Settings) -> None:
    """Do what the domains need done before they are loaded, such as having dbt parse its project."""
    for name in settings.domains:
        prepare = getattr(_domain(name), "prepare", None)
        if prepare is not None:
            prepare()


def document_domains(settings: Settings) -> list[Path]:
    """Have the domains document their marts in the reports folder; the pages to open.

    Raises:
        PlatformError: no domain has any.
    """
    pages = []
    for name in settings.domains:
        document = getattr(_domain(name), "document", None)
        if document is not None:
            pages.append(document(settings.reports / name.rpartition(".")[2] / "dbt"))
    if not pages:
        raise PlatformError(f"none of {', '.join(settings.domains)} has a function `document(folder)`")
    return pages


def load_domains(settings: Settings) -> list[ModuleType]:
    """The modules that the settings name, in that order.

    Raises:
        PlatformError: one cannot be imported.
    """
    return [_domain(name) for name in settings.domains]


def _domain(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise PlatformError(f"MY_PLATFORM_DOMAINS names {name}, which cannot be imported: {error}") from error


def open_workspace(settings: Settings, project: Project | None = None) -> Workspace:
    """The project of a home on its storage."""
    if "://" in settings.lake:
        index = TraceIndex(settings.home / "lake" / "index.sqlite", settings.lake)
    else:
        index = TraceIndex(Path(settings.lake) / "index.sqlite")
    patience = Patience.of(settings)
    lake = Lake(open_store(settings.lake, patience), FolderStore(settings.home / "quarantine"), index)
    limits = Limits(settings.most_file_rows, settings.most_file_bytes)
    landing = Landing(open_place(settings.landing, patience), index, limits, settings.quiet_s)
    ledger = RegistryPlace.of(settings).promotions()
    loaded = project or load_project(settings)
    memory = Memory(settings.memory_limit_bytes, settings.spill, resident_bytes())
    return Workspace(loaded, lake, landing, ledger=ledger, memory=memory)


def open_heads(settings: Settings, workspace: Workspace, instance: dg.DagsterInstance) -> DagsterHeads:
    return DagsterHeads(
        instance, workspace.project.assets, workspace.project.code_versions, commit_lock(settings)
    )


def commit_lock(settings: Settings) -> Path:
    return settings.dagster_home / "commit.lock"


def retraining_lock(settings: Settings) -> Path:
    """Held by whoever asks the retraining policies."""
    return settings.dagster_home / "retraining.lock"


def place_of(settings: Settings) -> Place:
    """Where runs on a home may happen."""
    return Place(
        commit_lock(settings),
        settings.dagster_home,
        settings.analysts_database,
        registry=open_registry(settings),
        reports=settings.reports,
        service_health=settings.service_health,
    )


def open_registry(settings: Settings) -> Registry:
    """The registered models of a home, with the ledger that says who serves."""
    return Registry.of(settings)


def data_span(settings: Settings, workspace: Workspace) -> Span:
    """First and last day of the data: from the calendar file, else from what has landed."""
    calendar = calendar_in(workspace.landing.place)
    days = _landed_days(workspace)
    yesterday = date.today() - timedelta(days=1)
    if calendar is None:
        first = days[0] if days else yesterday
        last = None
    else:
        first = min([calendar.first, *days[:1]])
        last = calendar.last
    if days and (last is not None or days[-1] > yesterday):
        last = max(last or days[-1], days[-1])
    return Span(first, last)


def _landed_days(workspace: Workspace) -> list[date]:
    days = set()
    for name, grain in workspace.project.tables.items():
        if grain is not Grain.DAY:
            continue
        # A folder that cannot be listed is told by refresh.
        with contextlib.suppress(Unreadable):
            for listed in workspace.landing.place.list(name):
                key = key_of(listed.path, name, grain)
                if key is not None:
                    days.add(date.fromisoformat(day_key(key)))
    return sorted(days)
