"""The commands about history that was rebuilt beside the current one."""

import sys

import typer

from my_platform.commands.console import Json, complain, print_json, settings_of_call, show_table

candidate = typer.Typer(
    help="History that was rebuilt beside the current one: list it, compare it, switch to it, throw it away.",
    no_args_is_help=True,
)


@candidate.command("list")
def list_candidates(as_json: Json = False) -> None:
    """The candidates of the home."""
    from my_platform.operations import session
    from my_platform.operations.candidates import overview
    from my_platform.storage.backfill_book import BackfillBook

    settings = settings_of_call()
    with session.opened(settings) as opened:
        found = overview(opened.workspace, BackfillBook(settings.backfills))
    if as_json:
        print_json({"candidates": found})
        return
    rows = [
        [
            each["name"],
            each["state"],
            each["at"],
            str(each["partitions"]),
            f"{each['bytes']:,}",
            ", ".join(each["assets"]),
        ]
        for each in found
    ]
    header = ["candidate", "state", "since", "partitions", "bytes of its own", "assets"]
    show_table(header, rows) if rows else typer.echo("there is no candidate")


@candidate.command("show")
def show_candidate(name: str, as_json: Json = False) -> None:
    """A candidate beside what is current: which partitions come out different."""
    from my_platform.operations import session
    from my_platform.operations.candidates import show
    from my_platform.storage.backfill_book import BackfillBook

    settings = settings_of_call()
    with session.opened(settings) as opened:
        found = show(opened.workspace, opened.heads, BackfillBook(settings.backfills), name)
    if as_json:
        print_json(found)
        return
    rows = [
        [asset, str(of["partitions"]), of["first"], of["last"], str(of["same"]), str(len(of["different"]))]
        for asset, of in found["assets"].items()
    ]
    show_table(["asset", "partitions", "first", "last", "same", "different"], rows)
    if found["behind"]:
        typer.echo(
            f"{len(found['behind'])} partitions are not what this code gives now, such as {found['behind'][0]}"
        )


@candidate.command("switch")
def switch_candidate(name: str, as_json: Json = False) -> None:
    """Make a candidate's values current; computes nothing."""
    from my_platform.operations import session
    from my_platform.storage.backfill_book import BackfillBook

    settings = settings_of_call()
    with session.opened(settings) as opened:
        report = opened.switch(BackfillBook(settings.backfills), name)
    found = report.as_json()
    if as_json:
        print_json(found)
    else:
        moved = sum(len(keys) for keys in found["reused"].values())
        typer.echo(f"{moved} partitions have the values of {name} now; {report.seconds:.1f} s")
    for reason in report.problems if not as_json else ():
        complain(reason)
    if report.problems:
        sys.exit(1)


@candidate.command("drop")
def drop_candidate(name: str, as_json: Json = False) -> None:
    """Throw away a candidate, and the values that only it refers to."""
    from my_platform.operations import session
    from my_platform.operations.candidates import drop
    from my_platform.storage.backfill_book import BackfillBook

    settings = settings_of_call()
    with session.opened(settings) as opened:
        found = drop(opened.workspace, opened.heads, BackfillBook(settings.backfills), name)
    if as_json:
        print_json(found)
        return
    typer.echo(
        f"{name} is gone, and {sum(found['removed'].values())} values of {found['bytes']:,} bytes with it"
    )
