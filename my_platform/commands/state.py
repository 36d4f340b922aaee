"""The commands about a home as a whole: what is wrong with it, copies of it, and getting it back from one."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from my_platform.commands.console import Json, print_json, settings_of_call, show_table
from my_platform.commands.move import move


def add_state_commands(app: typer.Typer) -> None:
    """Make the commands part of an application."""
    for command in (doctor, backup, restore, move):
        app.command()(command)


def doctor(
    deep: Annotated[
        bool, typer.Option("--deep", help="Look at every stored object, not at a sample.")
    ] = False,
    as_json: Json = False,
) -> None:
    """What is wrong with a home, and what to do about it. Changes nothing."""
    from rich.markup import escape

    from my_platform.operations.doctor.checks import examine_home

    found = examine_home(settings_of_call(), deep=deep)
    counts = {status: sum(each.status == status for each in found) for status in ("ok", "warning", "problem")}
    if as_json:
        print_json({**counts, "findings": [each.as_json() for each in found]})
    else:
        rows = [
            [each.check, each.status, escape(f"{each.found}{f'. {each.todo}' if each.todo else ''}")]
            for each in found
        ]
        show_table(["", "", "found"], rows)
        typer.echo(f"{counts['problem']} problems, {counts['warning']} warnings")
    if counts["problem"]:
        sys.exit(1)


def backup(
    target: Annotated[
        Path, typer.Argument(help="A folder that keeps backups, each by its time; or one file, NAME.tar.")
    ],
    as_json: Json = False,
) -> None:
    """Copy a home as it is at one moment, also while it is in use. A second copy in a folder only adds what is new."""
    from my_platform.operations.backup import back_up, elsewhere_of
    from my_platform.operations.restore import is_packed, pack

    settings = settings_of_call()
    if is_packed(target):
        told = {"backup": str(target), "files": pack(settings, target), "elsewhere": elsewhere_of(settings)}
    else:
        done = back_up(settings, target)
        told = {
            "backup": str(done.place),
            "files": done.files,
            "bytes": done.bytes,
            "linked": done.linked,
            "elsewhere": dict(done.elsewhere),
        }
    if as_json:
        print_json(told)
        return
    typer.echo(f"{told['files']:,} files of {settings.home} are in {told['backup']}")
    for name, place in elsewhere_of(settings).items():
        typer.echo(f"not in it: the {name}, which lies in {place}; keep a copy of that by its own means")


def restore(
    source: Annotated[
        Path,
        typer.Argument(help="A backup, its file, or the folder that keeps several: the last one is taken."),
    ],
    as_json: Json = False,
) -> None:
    """Make a home from a backup, every byte checked, in a folder that is empty."""
    from my_platform.operations.restore import restore as restored

    settings = settings_of_call()
    files = restored(settings, source)
    if as_json:
        print_json({"home": str(settings.home), "files": len(files)})
    else:
        typer.echo(f"{settings.home} is made of {len(files):,} files, each as it was backed up")
