"""What all commands share: how they answer and how they complain."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from my_platform.errors import PlatformError

if TYPE_CHECKING:
    from my_platform.settings import Settings

Json = Annotated[
    bool, typer.Option("--json", help="Print exactly one JSON object; logs go to standard error.")
]


def settings_of_call() -> "Settings":
    """The settings of the home that the command is about."""
    from my_platform.settings import load_settings

    return load_settings()


def landing_folder(settings: "Settings") -> Path:
    """The folder that a command lands files in, with the home around it.

    Raises:
        PlatformError: landing is no folder.
    """
    from my_platform.operations.home import prepare_home

    if "://" in settings.landing:
        raise PlatformError(
            f"MY_PLATFORM_LANDING_URL is {settings.landing}; land into a folder and copy it there"
        )
    prepare_home(settings)
    return Path(settings.landing)


def day_given(text: str, option: str) -> date:
    """The day that an option names.

    Raises:
        PlatformError: there is no such day.
    """
    try:
        if len(text) != 10:
            raise ValueError
        return date.fromisoformat(text)
    except ValueError:
        raise PlatformError(
            f"{option} {text}: there is no such day; write a date that exists as YYYY-MM-DD"
        ) from None


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


class Advance:
    """Moves a progress bar; does nothing where none is shown."""

    def __init__(self, bar: Any = None, task: Any = None) -> None:
        self._bar, self._task = bar, task

    def __call__(self, what: str) -> None:
        if self._bar is not None:
            self._bar.update(self._task, advance=1, what=what)

    def total(self, partitions: int) -> None:
        if self._bar is not None:
            done = self._bar.tasks[self._task].completed
            self._bar.update(self._task, total=max(done + partitions, 1))


@contextmanager
def progress(verb: str, total: int | None, quiet: bool) -> Iterator[Advance]:
    """A bar on standard error; nothing where it is no terminal or JSON was asked for."""
    if quiet or not sys.stderr.isatty():
        yield Advance()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn(verb),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[what]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield Advance(bar, bar.add_task(verb, total=total or None, what=""))
