"""The commands about what was scored: in bulk, by the service, and with which data."""

from pathlib import Path
from typing import Annotated, Any

import typer

from my_platform.console import Json, print_json, settings_of_call, show_table


def add_bulk_commands(app: typer.Typer) -> None:
    """Make the commands part of an application."""
    app.command("land-log")(land_log)


def land_log(as_json: Json = False) -> None:
    """Land what the service logged, as tables by day: finished days that have changed since they landed."""
    from my_platform.operations.home import land_logs, prepare_domains, prepare_home

    settings = settings_of_call()
    prepare_home(settings)
    prepare_domains(settings)
    found = {table: landed.as_json() for table, landed in land_logs(settings).items()}
    if as_json:
        print_json(found)
        return
    rows = [
        [table, day, f"{number:,}"]
        for table, landed in found.items()
        for day, number in landed["written"].items()
    ]
    show_table(["table", "day", "rows"], rows) if rows else typer.echo("nothing to land")
