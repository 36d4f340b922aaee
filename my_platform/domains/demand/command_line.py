"""The command of this domain: landing simulated demand."""

from datetime import date, timedelta
from typing import Annotated

import typer

from my_platform.commands.console import (
    Json,
    day_given,
    landing_folder,
    print_json,
    progress,
    settings_of_call,
)
from my_platform.domains.demand import simulator
from my_platform.errors import PlatformError


def commands(app: typer.Typer) -> None:
    """Make the command part of an application."""
    app.command()(simulate)


def simulate(
    days: Annotated[int | None, typer.Option(min=1, help="Days to land.")] = None,
    start: Annotated[
        str | None, typer.Option(help="First day, YYYY-MM-DD; default: so that the last is yesterday.")
    ] = None,
    append_days: Annotated[
        int | None, typer.Option(min=1, help="Land this many days after the last landed one.")
    ] = None,
    meters: Annotated[int, typer.Option(min=1, help="Meters to draw.")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="The same seed lands the same bytes.")] = 0,
    as_json: Json = False,
) -> None:
    """Land simulated hours of meters, their readings, the weather and the meters' profiles."""
    settings = settings_of_call()
    if (days is None) == (append_days is None):
        raise PlatformError("say either --days N for a new simulation or --append-days N to go on with one")
    landing = landing_folder(settings)
    with progress("landing", days or append_days or 0, as_json) as advance:
        if append_days is not None:
            done = simulator.append_days(landing, append_days, on_day=lambda day: advance(str(day)))
        else:
            assert days is not None
            first = day_given(start, "--start") if start else date.today() - timedelta(days=days)
            done = simulator.land_days(
                landing,
                first=first,
                days=days,
                meters=meters,
                seed=seed,
                closed=start is not None,
                on_day=lambda day: advance(str(day)),
            )
    if as_json:
        print_json({"rows": done.rows, "days": done.days, "files": done.files, "landing": str(landing)})
    else:
        typer.echo(f"landed {done.rows:,} hours of meters over {done.days} days in {landing}")
