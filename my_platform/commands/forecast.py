"""The commands that look ahead and back: what a refresh would do, why a partition is as it is, what a file would cause."""

from pathlib import Path
from typing import Annotated, Any

import typer

from my_platform.commands.console import Json, print_json, settings_of_call, show_table


def add_forecast_commands(app: typer.Typer) -> None:
    """Make the commands part of an application."""
    for command in (plan, why, quote):
        app.command()(command)


def plan(as_json: Json = False) -> None:
    """What a refresh would do, and why: for certain, perhaps, and what waits or is refused."""
    from my_platform.operations import session
    from my_platform.operations.forecast import forecast

    with session.opened(settings_of_call()) as opened:
        found = forecast(opened.workspace, opened.heads).as_json()
    print_json(found) if as_json else _show_forecast(found)


def why(
    asset: Annotated[str, typer.Argument(help="For example validated/orders.")],
    partition: Annotated[
        str, typer.Argument(help="Its day or week, YYYY-MM-DD; none for an unpartitioned asset.")
    ] = "",
    as_json: Json = False,
) -> None:
    """The chain from the landed files to a partition, and why it is as it is."""
    from my_platform.operations import session
    from my_platform.operations.forecast import why as chain

    with session.opened(settings_of_call()) as opened:
        found = chain(opened.workspace, opened.heads, asset, partition)
    print_json(found) if as_json else _show_chain(found)


def quote(
    file: Annotated[Path, typer.Argument(help="A file that is to land, not yet in landing.")],
    table: Annotated[
        str | None, typer.Option(help="The landed table it is for; default: its folder's name.")
    ] = None,
    day: Annotated[str | None, typer.Option(help="Its day, YYYY-MM-DD; default: its name.")] = None,
    as_json: Json = False,
) -> None:
    """What landing a file would cause, before it lands: certain and possible partitions, seconds, bytes."""
    from my_platform.operations import session
    from my_platform.operations.forecast import quote as quoted

    with session.opened(settings_of_call()) as opened:
        found = quoted(opened.workspace, opened.heads, file, table, day).as_json()
    print_json(found) if as_json else _show_forecast(found)


def _show_forecast(found: dict[str, Any]) -> None:
    rows = []
    for kind in ("certain", "possible", "reuse", "withdraw", "waiting", "refused"):
        for asset, partitions in found[kind].items():
            keys = sorted(partitions)
            rows.append([kind, asset, str(len(keys)), keys[0], keys[-1], partitions[keys[0]]])
    if not any(found[kind] for kind in ("certain", "possible", "reuse", "withdraw")):
        typer.echo("nothing is owed")
    if rows:
        show_table(["", "asset", "partitions", "first", "last", "because (first)"], rows)
    estimate = found["estimate"]
    typer.echo(
        f"estimate: {estimate['seconds_certain']:.1f} s for certain, at most {estimate['seconds_at_most']:.1f} s; "
        f"{estimate['bytes_certain']:,} bytes, at most {estimate['bytes_at_most']:,}"
    )


def _show_chain(found: dict[str, Any], depth: int = 0) -> None:
    name = f"{found['asset']} {found['partition']}".strip()
    version = (found["data_version"] or "none")[:12]
    typer.echo(f"{'  ' * depth}{name}: {found['state']}, {version}; {found['because']}")
    for link in found["inputs"]:
        for file in link.get("files", ()):
            typer.echo(f"{'  ' * (depth + 1)}landed {file}")
        if "through" in link:
            _show_chain(link["through"], depth + 1)
