"""The command that asks databases and HTTP APIs for the days that they owe."""

import sys
from datetime import datetime
from typing import Annotated

import typer

from my_platform.commands.console import Json, complain, print_json, settings_of_call, show_table


def fetch(
    table: Annotated[
        list[str] | None, typer.Option(help="Only this table; may be said several times.")
    ] = None,
    first: Annotated[
        datetime | None,
        typer.Option("--from", formats=["%Y-%m-%d"], help="The first day, not the one after the last."),
    ] = None,
    through: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The last day, not yesterday.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Land the finished days of the databases and HTTP APIs that the domains declare."""
    from my_platform.operations.fetching import fetch_sources
    from my_platform.operations.home import prepare_home

    settings = settings_of_call()
    prepare_home(settings)
    found = fetch_sources(
        settings, table or (), first.date() if first else None, through.date() if through else None
    )
    if as_json:
        print_json({name: done.as_json() for name, done in found.items()})
    elif not found:
        typer.echo(f"{', '.join(settings.domains)} declares no source, so there is nothing to fetch")
    else:
        rows = [
            [name, *(str(len(days)) for days in (done.landed, done.corrected, done.unchanged, done.empty))]
            for name, done in found.items()
        ]
        show_table(["table", "landed", "corrected", "unchanged", "without rows"], rows)
    failed = [done.failed for done in found.values() if done.failed]
    for reason in failed:
        complain(reason)
    if failed:
        sys.exit(1)
