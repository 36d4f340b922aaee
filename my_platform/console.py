"""What all commands share: how they answer and how they complain."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from my_platform.settings import Settings

Json = Annotated[
    bool, typer.Option("--json", help="Print exactly one JSON object; logs go to standard error.")
]


def settings_of_call() -> "Settings":
    """The settings of the home that the command is about."""
    from my_platform.settings import load_settings

    return load_settings()


def show_table(header: list[str], rows: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for position, name in enumerate(header):
        last = position == len(header) - 1
        table.add_column(name, justify="left" if position == 0 or last else "right", no_wrap=not last)
    for row in rows:
        table.add_row(*row)
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    console.print(table)


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=1, default=str))


def complain(text: str) -> None:
    typer.echo(f"my-platform: {text}", err=True)
