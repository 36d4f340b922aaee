"""Checks of what runs: the libraries that are installed, and the domains that are loaded."""

import importlib.metadata
from collections.abc import Iterator

from packaging.requirements import Requirement

from my_platform.operations.doctor.findings import Told, ok, problem
from my_platform.operations.home import load_project
from my_platform.settings import Settings

_ANEW = "run `make setup` in the checkout, which installs the versions that were tested together"


def libraries(settings: Settings) -> Iterator[Told]:
    """Whether each library has a version that the code was written for."""
    extras = {""}
    if any(url.startswith("s3://") for url in (settings.lake, settings.landing)):
        extras.add("s3")
    config = settings.dagster_home / "dagster.yaml"
    lines = config.read_text().splitlines() if config.exists() else []
    configured = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    extras |= {
        extra for word, extra in (("postgres", "postgres"), ("dagster_ray", "ray")) if word in configured
    }
    wrong, fitting = [], 0
    for text in importlib.metadata.requires("my-platform") or ():
        wanted = Requirement(text)
        if wanted.marker is not None and not any(wanted.marker.evaluate({"extra": each}) for each in extras):
            continue
        try:
            found = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{wanted.name} is missing ({wanted.specifier} is needed)")
            continue
        if wanted.specifier.contains(found, prereleases=True):
            fitting += 1
        else:
            wrong.append(f"{wanted.name} is {found}, where {wanted.specifier} is needed")
    for each in wrong:
        yield problem(each, _ANEW)
    if not wrong:
        yield ok(f"{fitting} libraries have versions that the code was written for")


def domains(settings: Settings) -> Iterator[Told]:
    """Whether the domains can be loaded."""
    project = load_project(settings)
    yield ok(f"{', '.join(settings.domains)}: {len(project.assets)} assets")
