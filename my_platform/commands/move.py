"""Carrying a home from the disk of one machine into a bucket."""

from pathlib import Path
from typing import Annotated

import typer

from my_platform.commands.console import Json, print_json


def move(
    home: Annotated[Path, typer.Argument(help="The home that lies on this machine.")],
    target: Annotated[str, typer.Argument(help="Where it goes: s3://bucket/prefix, an empty place.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be carried over.")] = False,
    as_json: Json = False,
) -> None:
    """Carry a home over into a bucket, with nothing computed again; called again, it goes on where it was cut off.

    With MY_PLATFORM_PROFILE=server or cluster, what is current and the models go to PostgreSQL too.
    """
    from my_platform.operations.moving import Move
    from my_platform.settings import load_settings

    done = Move(load_settings(home=home, bucket_url=target)).run(dry_run=dry_run)
    if as_json:
        print_json({**done.as_json(), "dry_run": dry_run})
        return
    if done.before:
        typer.echo(f"{home} was moved to {target} before; nothing is carried over")
    for name, found in done.carried.items():
        verb = "would send" if dry_run else "sent"
        typer.echo(
            f"{name}: {verb} {found.sent:,} files, {found.sent_bytes:,} bytes; {found.files:,} are there"
        )
    if done.heads:
        typer.echo(f"PostgreSQL has {done.heads:,} heads and {done.rows:,} rows of models")
    if done.lines:
        typer.echo(f"the bucket has {done.lines:,} lines of the ledgers, with their bundles")
    typer.echo("what to set:" if dry_run else "what to set from now on:")
    for name, value in done.variables.items():
        typer.echo(f"  export {name}={value}")
