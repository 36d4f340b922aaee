"""The commands about the quality of data: rows in quarantine, what was decided of them, and checks."""

import sys
from typing import Annotated, Any

import typer

from my_platform.commands.console import Json, print_json, settings_of_call, show_table
from my_platform.errors import PlatformError


def add_quality_commands(app: typer.Typer) -> None:
    """Make the commands part of an application."""
    for command in (quarantine, checks, release, decisions):
        app.command()(command)


def quarantine(
    asset: Annotated[str | None, typer.Argument(help="For example validated/orders.")] = None,
    partition: Annotated[str | None, typer.Argument(help="Its day, YYYY-MM-DD.")] = None,
    as_json: Json = False,
) -> None:
    """The rows that contracts turned away, with the reason; those of refused deliveries too."""
    from my_platform.operations import session

    with session.opened(settings_of_call()) as opened:
        found = opened.quarantined(asset, partition)
    if as_json:
        print_json(found)
        return
    rows = [
        [name, key, str(row.get("row_number", "")), row["rule"], row["state"], row["reason"]]
        for name, partitions in found.items()
        for key, bad in partitions.items()
        for row in bad
    ]
    show_table(["asset", "partition", "row", "rule", "state", "reason"], rows) if rows else typer.echo(
        "no row is in quarantine"
    )


def checks(
    asset: Annotated[str | None, typer.Argument(help="For example validated/orders.")] = None,
    partition: Annotated[str | None, typer.Argument(help="Its day, YYYY-MM-DD.")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only what failed.")] = False,
    as_json: Json = False,
) -> None:
    """What is unlike the days before: results of checks, refused files, days that did not land."""
    from my_platform.operations import session

    with session.opened(settings_of_call()) as opened:
        found = opened.checks(asset, partition)
    wrong = {
        name: {key: bad for key, rows in by_key.items() if (bad := [r for r in rows if not r["passed"]])}
        for name, by_key in found.items()
    }
    if as_json:
        print_json({name: by_key for name, by_key in wrong.items() if by_key} if failed else found)
    else:
        _show_checks(found, wrong, whole=partition is not None and not failed)
    if any(wrong.values()):
        sys.exit(1)


def release(
    asset: Annotated[str, typer.Argument(help="For example validated/orders.")],
    partition: Annotated[
        str, typer.Argument(help="Its day, YYYY-MM-DD; none for an unpartitioned asset.")
    ] = "",
    rows: Annotated[str | None, typer.Option(help="Row numbers as `quarantine` tells them: 3,17.")] = None,
    rule: Annotated[str | None, typer.Option(help="All rows whose first broken rule is this one.")] = None,
    all_rows: Annotated[bool, typer.Option("--all", help="All rows of the partition's quarantine.")] = False,
    take_back: Annotated[bool, typer.Option("--undo", help="Take the partition's releases back.")] = False,
    reason: Annotated[str, typer.Option(help="Why; it is kept with the decision.")] = "",
    as_json: Json = False,
) -> None:
    """Let rows of a quarantine in after all. The next refresh heals the partition and what reads it."""
    import getpass

    from my_platform.operations import session
    from my_platform.operations.quarantine import Chosen, Word

    numbers = _numbers(rows) if rows else ()
    if take_back and (numbers or rule or all_rows):
        raise PlatformError(
            "--undo takes all releases of a partition back; leave --rows, --rule and --all out"
        )
    word = Word.given(reason, getpass.getuser())
    with session.opened(settings_of_call()) as opened:
        done = (
            opened.undo(asset, partition, word)
            if take_back
            else opened.release(asset, partition, Chosen(numbers, rule, all_rows), word)
        )
    if as_json:
        print_json(done)
        return
    verb = "the release is taken back of" if take_back else "let in:"
    typer.echo(
        f"{verb} {len(done['rows'])} rows of {asset} {partition}, by {done['decision']}".replace(" ,", ",")
    )
    typer.echo("`my-platform plan` says what that causes, and `my-platform refresh` does it")


def decisions(
    asset: Annotated[str | None, typer.Argument(help="For example validated/orders.")] = None,
    partition: Annotated[str | None, typer.Argument(help="Its day, YYYY-MM-DD.")] = None,
    as_json: Json = False,
) -> None:
    """What people decided about rows in quarantine: who, when, why, and whether it still stands."""
    from my_platform.operations import session

    with session.opened(settings_of_call()) as opened:
        found = opened.decided(asset, partition)
    if as_json:
        print_json({"decisions": found})
        return
    rows = [
        [
            told["asset"],
            told["partition"],
            told["decision"],
            ",".join(map(str, told["rows"])),
            "yes" if told["stands"] else "",
            told["by"],
            told["at"],
            told["reason"],
        ]
        for told in found
    ]
    header = ["asset", "partition", "decision", "rows", "stands", "by", "at", "reason"]
    show_table(header, rows) if rows else typer.echo("nothing has been decided")


def _show_checks(found: dict[str, Any], wrong: dict[str, Any], *, whole: bool) -> None:
    rows = [
        [
            name,
            key,
            row["check"],
            f"{row['column']} {row['measure']}".strip(),
            "passed" if row["passed"] else row["severity"],
            row["message"] or f"{row['value']:,.6g}",
        ]
        for name, by_key in (found if whole else wrong).items()
        for key, results in by_key.items()
        for row in results
    ]
    if rows:
        show_table(["asset", "partition", "check", "of", "", "found"], rows)
    partitions, bad = (sum(map(len, kind.values())) for kind in (found, wrong))
    typer.echo(f"{partitions} partitions checked, {bad} with something that failed")


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise PlatformError(
            f"--rows {text}: expected row numbers separated by commas, such as 3,17"
        ) from None
