"""The command that writes a domain from sample files."""

import importlib.util
import keyword
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from my_platform.commands.console import Json, landing_folder, print_json, settings_of_call
from my_platform.errors import PlatformError

if TYPE_CHECKING:
    from my_platform.scaffold.samples import Sample

# A week to be fitted on, the weeks until its test is known, and the next models, which it tells of.
_FEW_DAYS = 35


def new_domain(
    name: Annotated[str, typer.Argument(help="What the package is called, and what its model is for.")],
    more: Annotated[list[Path] | None, typer.Argument(help="More sample files.", show_default=False)] = None,
    first: Annotated[
        Path | None,
        typer.Option("--from", help="A CSV or Parquet file of the rows that a forecast is made for."),
    ] = None,
    time: Annotated[str | None, typer.Option(help="The column that says when a row happens, UTC.")] = None,
    entity: Annotated[str | None, typer.Option(help="The column that says of whom a row is.")] = None,
    target: Annotated[str | None, typer.Option(help="The column that is forecast.")] = None,
    key: Annotated[str | None, typer.Option(help="The column that identifies a row.")] = None,
    known_after: Annotated[
        int, typer.Option(min=1, max=7, help="Whole days after which the target of a row is known.")
    ] = 1,
    as_json: Json = False,
) -> None:
    """Write a domain from sample files, in this folder, and land the files, cut into days by their time."""
    from my_platform.scaffold.landing import land_samples
    from my_platform.scaffold.samples import find_parts, find_time, read_sample
    from my_platform.scaffold.writing import contracts_file, domain_file, features_file, test_file

    if first is None:
        raise PlatformError("--from FILE names the sample of the rows that a forecast is made for; give one")
    folder = _new_folder(name)
    samples = [read_sample(path) for path in (first, *(more or ()))]
    if len({sample.name for sample in samples}) < len(samples):
        raise PlatformError("two sample files have one name, which is that of their table; rename one")
    main = samples[0]
    parts = find_parts(main, key=key, time=time, entity=entity, target=target)
    times: dict[str, str | None] = {main.name: parts.time}
    for each in samples[1:]:
        times[each.name] = find_time(each, time if time in each.rows.columns else None)
    keys = {main.name: parts.key, **{each.name: _key_of(each, times[each.name]) for each in samples[1:]}}
    files = {
        "__init__.py": domain_file(name, samples, times, parts),
        "contracts.py": contracts_file(samples, times, keys),
        "features.py": features_file(main, parts, known_after),
        f"test_{name}.py": test_file(name, main, parts),
    }
    landing = landing_folder(settings_of_call())
    landed = land_samples(landing, samples, times)
    folder.mkdir()
    for file, text in files.items():
        (folder / file).write_text(text)
    if as_json:
        told = {"key": parts.key, "time": parts.time, "entity": parts.entity, "target": parts.target}
        print_json(
            {"domain": name, "files": sorted(files), **told, "landed": landed, "landing": str(landing)}
        )
        return
    typer.echo(f"wrote {', '.join(f'{name}/{file}' for file in sorted(files))}")
    typer.echo(
        f"  forecasts {parts.target} of each {parts.key}, by {parts.entity}, at {parts.time}; known after {known_after} "
        f"day{'s' if known_after > 1 else ''}"
    )
    for table, days in landed.items():
        typer.echo(
            f"landed {table} in {landing}, {f'a file a day, {days} days by {times[table]}' if days else 'one file'}"
        )
    if landed[main.name] < _FEW_DAYS:
        typer.echo(f"these are few days: a model that is tested and promoted needs about {_FEW_DAYS} of them")
    typer.echo(f"next: export MY_PLATFORM_DOMAINS={name}, then my-platform refresh")


def _new_folder(name: str) -> Path:
    """The folder to write, which is not there, and whose name no other module has."""
    if not name.isidentifier() or keyword.iskeyword(name) or name != name.lower():
        raise PlatformError(
            f"{name!r} cannot be the name of a package; take small letters, digits and _, a letter first"
        )
    folder = Path.cwd() / name
    if folder.exists():
        raise PlatformError(f"{folder} is there already and is not overwritten; choose another name")
    if importlib.util.find_spec(name) is not None:
        raise PlatformError(f"there is a Python module {name} already; choose another name")
    return folder


def _key_of(sample: "Sample", time: str | None) -> str:
    """What identifies a row of a further table: its first column that can."""
    found = [column.name for column in sample.columns if column.unique and column.name != time]
    if not found:
        raise PlatformError(f"{sample.path}: no column identifies a row; add one")
    return found[0]
