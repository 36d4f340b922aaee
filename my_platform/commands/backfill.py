"""The command for many partitions at once."""

import sys
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

import typer

from my_platform.commands.candidate import candidate
from my_platform.commands.console import Json, complain, print_json, progress, settings_of_call, show_table
from my_platform.errors import PlatformError

if TYPE_CHECKING:
    from my_platform.operations.session import Session
    from my_platform.storage.backfill_book import BackfillBook, Ordered


def add_backfill_commands(app: typer.Typer) -> None:
    """Make the commands part of an application."""
    app.command()(backfill)
    app.add_typer(candidate, name="candidate")


def backfill(
    assets: Annotated[
        str,
        typer.Argument(
            help="Names with commas between them, or a Dagster selection: +shop_week is it and what it reads."
        ),
    ] = "",
    first: Annotated[str | None, typer.Option("--from", help="First day, YYYY-MM-DD.")] = None,
    through: Annotated[
        str | None, typer.Option("--through", "--to", help="Last day, YYYY-MM-DD; included.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Compute again what is there too, and say where it differs.")
    ] = False,
    as_candidate: Annotated[
        str | None, typer.Option("--as", help="Keep the values beside the current ones, under this name.")
    ] = None,
    chunk: Annotated[
        int | None, typer.Option(min=1, help="Most partitions of a run; default: about a minute of work.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    list_all: Annotated[bool, typer.Option("--list", help="All backfills of the home.")] = False,
    status: Annotated[int | None, typer.Option(help="How far a backfill is, by its number.")] = None,
    cancel: Annotated[
        int | None, typer.Option(help="End a backfill after the partition that is under way.")
    ] = None,
    resume: Annotated[int | None, typer.Option(help="Go on with a backfill that did not end.")] = None,
    as_json: Json = False,
) -> None:
    """Compute what is owed of some assets and days, piece by piece; the same command goes on where it ended."""
    from my_platform.operations import backfills
    from my_platform.operations.backfill_scope import estimate
    from my_platform.operations.formats import check_format
    from my_platform.storage.backfill_book import BackfillBook

    asked = [name for name, given in _questions(assets, list_all, status, cancel, resume).items() if given]
    if len(asked) != 1:
        found_ones = f"there are {', '.join(asked)}" if asked else "there is none"
        raise PlatformError(f"say one of ASSETS, --list, --status, --cancel and --resume; {found_ones}")
    settings = settings_of_call()
    check_format(settings.home)
    book = BackfillBook(settings.backfills)
    if list_all:
        _show_list([backfills.status(b, running=book.is_running(b.id)) for b in book.backfills()], as_json)
        return
    if status is not None or cancel is not None:
        found = book.backfill(status) if status is not None else backfills.cancel(book, cancel or 0)
        _show_one(
            backfills.status(found, running=book.is_running(found.id)),
            book.done(found.id, "failed", "differs"),
            as_json,
        )
        return
    from my_platform.operations import session

    with session.opened(settings) as opened:
        if resume is None:
            ordered = _ordered(opened, assets, first, through, force, as_candidate, chunk)
            if dry_run:
                _show_estimate(estimate(opened, book, ordered), as_json)
                return
            _run(opened, book, ordered, chunk, as_json)
        else:
            _run(opened, book, resume, chunk, as_json)


def _run(
    opened: "Session", book: "BackfillBook", what: "Ordered | int", chunk: int | None, as_json: bool
) -> None:
    from my_platform.operations import backfills

    with progress("backfill", 0, as_json) as advance:
        watch = backfills.Watch(
            on_plan=lambda left, _seconds: advance.total(left),
            on_partition=lambda asset, key, _kind: advance(f"{asset} {key}".strip()),
        )
        ended = backfills.backfill(opened, book, what, watch, chunk=chunk)
    found = ended.as_json()
    if as_json:
        print_json(found)
    else:
        _show_one(found, {}, as_json=False)
        for asset, reasons in found["waiting"].items():
            keys = sorted(reasons)
            typer.echo(
                f"{asset} {keys[0]} {reasons[keys[0]]}; {len(keys)} partitions wait".replace("  ", " ")
            )
    for reason in ended.problems if not as_json else ():
        complain(reason)
    if found["state"] == "cancelled":
        complain(f"ended before all was done; `my-platform backfill --resume {found['id']}` goes on")
    if ended.problems or found["state"] == "cancelled":
        sys.exit(1)


def _questions(
    assets: str, list_all: bool, status: int | None, cancel: int | None, resume: int | None
) -> dict[str, bool]:
    return {
        "ASSETS": bool(assets),
        "--list": list_all,
        "--status": status is not None,
        "--cancel": cancel is not None,
        "--resume": resume is not None,
    }


def _ordered(
    opened: "Session",
    assets: str,
    first: str | None,
    through: str | None,
    force: bool,
    as_candidate: str | None,
    chunk: int | None,
) -> "Ordered":
    from my_platform.operations.candidates import check_name
    from my_platform.storage.backfill_book import Ordered

    low, high = _day(first, "--from"), _day(through, "--through")
    if low and high and low > high:
        raise PlatformError(f"--from {first} is after --through {through}; there is no day in between")
    return Ordered(
        tuple(sorted(opened.selected(assets))),
        low,
        high,
        force,
        check_name(as_candidate) if as_candidate is not None else "",
        chunk,
    )


def _day(text: str | None, option: str) -> str:
    if text is None:
        return ""
    try:
        if len(text) != 10:
            raise ValueError
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise PlatformError(
            f"{option} {text}: there is no such day; write a date that exists as YYYY-MM-DD"
        ) from None


def _show_list(found: Sequence[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json({"backfills": list(found)})
        return
    rows = [
        [
            str(each["id"]),
            each["state"],
            each["at"],
            f"{each['from'] or '…'} to {each['through'] or '…'}",
            str(each["computed"]),
            str(each["left"]["partitions"]),
            ", ".join(each["assets"]) + (f" as {each['as']}" if each["as"] else ""),
        ]
        for each in found
    ]
    header = ["backfill", "state", "since", "days", "computed", "left", "assets"]
    show_table(header, rows) if rows else typer.echo("there was no backfill")


def _show_one(found: dict[str, Any], problems: dict[str, dict[str, str]], as_json: bool) -> None:
    if as_json:
        print_json({**found, "problems_by_partition": problems})
        return
    kinds = ("computed", "reused", "withdrawn", "confirmed", "problems")
    told = ", ".join(f"{found[kind]} {kind}" for kind in kinds if found[kind]) or "nothing was owed"
    typer.echo(f"backfill {found['id']}: {found['state']}; {told}")
    if found["left"]["partitions"]:
        typer.echo(
            f"  left when its last run began: {found['left']['partitions']} partitions, about {found['left']['seconds']:.0f} s"
        )
    runs = len(found["runs"])
    typer.echo(f"  {runs} run{'' if runs == 1 else 's'}, {found['seconds']:.1f} s")
    for reasons in problems.values():
        for reason in reasons.values():
            complain(reason)


def _show_estimate(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    rows = [
        [asset, action, str(len(keys)), keys[0], keys[-1]]
        for asset, actions in found["assets"].items()
        for action, keys in actions.items()
    ]
    if rows:
        show_table(["asset", "", "partitions", "first", "last"], rows)
    unknown = found["never_computed"]
    typer.echo(
        f"{found['partitions']} partitions in about {len(found['chunks'])} runs, about {found['seconds']:.0f} s"
        + (f" without {', '.join(unknown)}, which were never computed" if unknown else "")
    )
    if found["computed_again"]:
        typer.echo(f"{found['computed_again']} more are computed again and compared")
    for kind, verb in (("waiting", "wait"), ("refused", "were refused")):
        for asset, reasons in found[kind].items():
            keys = sorted(reasons)
            typer.echo(f"{asset}: {len(keys)} partitions {verb}, such as {keys[0]}: {reasons[keys[0]]}")
