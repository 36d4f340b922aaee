"""The command that says where time and bytes go, and how well is kept what was promised."""

import time
from typing import Annotated, Any

import typer

from my_platform.commands.console import Json, print_json, settings_of_call, show_table


def audit(
    days: Annotated[int, typer.Option(min=1, max=3_650, help="Days that service levels are told of.")] = 30,
    page: Annotated[bool, typer.Option("--page", help="Write the page of service levels as well.")] = False,
    as_json: Json = False,
) -> None:
    """Where time and bytes go, what to do about it, and the service levels; exit code 0 whatever is found."""
    from my_platform.operations import session
    from my_platform.operations.audit.home import audit as audited
    from my_platform.operations.audit.home import write_page

    settings = settings_of_call()
    with session.opened(settings) as opened:
        found = audited(settings, opened.workspace, opened.heads, time.time(), days)
    if page:
        found["page"] = str(write_page(settings.reports, found))
    if as_json:
        print_json(found)
    else:
        _show(found)


def _show(found: dict[str, Any]) -> None:
    typer.echo(f"{found['computed']:,} computations took {found['wall_seconds']:,.1f} s")
    for one in found["findings"]:
        typer.echo(f"\n{one['what']}: {one['figure']}; saves at most {one['saves_s']:,.1f} s")
        typer.echo(f"  do: {one['do']}")
        for each in one["evidence"]:
            typer.echo(f"  {each}")
    if found["computed"] and not found["findings"]:
        typer.echo("nothing is done that need not be")
    typer.echo("")
    words = {True: "met", False: "missed", None: "no case"}
    show_table(
        ["service level", "of", "cases", "target", "", "measured"],
        [
            [
                level["name"],
                level["about"],
                f"{level['cases']:,}",
                level["target"],
                words[level["met"]],
                level["figure"],
            ]
            for level in found["service_levels"]
        ],
    )
    for one in found["experiments"]:
        typer.echo(f"{one['report']} {one['seconds']:,.1f} s after {', '.join(one['changed'])} had changed")
    for each in found["untold"]:
        typer.echo(each)
    if "page" in found:
        typer.echo(found["page"])
