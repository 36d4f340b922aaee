"""The commands of this domain: landing simulated or imported card transactions, and a demonstration."""

from datetime import date, timedelta
from pathlib import Path
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
from my_platform.commands.refresh import show_off
from my_platform.domains.fraud import simulator
from my_platform.domains.fraud.handbook import import_handbook as import_days
from my_platform.domains.fraud.landing_files import LandingSummary
from my_platform.domains.fraud.publishing import USE
from my_platform.errors import PlatformError


def commands(app: typer.Typer) -> None:
    """Make the commands part of an application."""
    app.command()(simulate)
    app.command("import-handbook")(import_handbook)
    app.command()(demo)


def simulate(
    days: Annotated[int | None, typer.Option(min=1, help="Days to land.")] = None,
    start: Annotated[
        str | None, typer.Option(help="First day, YYYY-MM-DD; default: so that the last is yesterday.")
    ] = None,
    append_days: Annotated[
        int | None, typer.Option(min=1, help="Land this many days after the last landed one.")
    ] = None,
    customers: Annotated[int, typer.Option(min=1, help="Customers to draw.")] = 5000,
    terminals: Annotated[int, typer.Option(min=1, help="Terminals to draw.")] = 10000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed lands the same bytes.")] = 0,
    scenarios: Annotated[
        bool, typer.Option("--scenarios", help="Land the kind of each reported fraud as well.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Land simulated card transactions, reports and profiles."""
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
            config = simulator.SimulatorConfig(customers=customers, terminals=terminals, seed=seed)
            done = simulator.land_simulation(
                landing,
                first=first,
                days=days,
                config=config,
                closed=start is not None,
                scenarios=scenarios,
                on_day=lambda day: advance(str(day)),
            )
    _show_landed(done, landing, as_json)


def import_handbook(
    folder: Annotated[Path, typer.Argument(help="The folder with the daily Parquet files.")],
    first: Annotated[str | None, typer.Option("--from", help="First day to import, YYYY-MM-DD.")] = None,
    through: Annotated[str | None, typer.Option(help="Last day to import, YYYY-MM-DD.")] = None,
    scenarios: Annotated[
        bool, typer.Option("--scenarios", help="Land the kind of each reported fraud as well.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Land the daily files of the Fraud Detection Handbook: transactions, and reports seven days later."""
    settings = settings_of_call()
    landing = landing_folder(settings)
    with progress("landing", None, as_json) as advance:
        done = import_days(
            folder,
            landing,
            first=day_given(first, "--from") if first else None,
            through=day_given(through, "--through") if through else None,
            scenarios=scenarios,
            on_day=lambda day: advance(str(day)),
        )
    _show_landed(done, landing, as_json)


def demo(
    days: Annotated[int, typer.Option(min=42, help="Days to simulate.")] = 120,
    customers: Annotated[int, typer.Option(min=1)] = 1000,
    terminals: Annotated[int, typer.Option(min=1)] = 2000,
) -> None:
    """Simulate card transactions, bring everything up to date, and say where to look."""
    settings = settings_of_call()
    landing = landing_folder(settings)
    if not (landing / "calendar.json").exists():
        simulate(days=days, start=None, append_days=None, customers=customers, terminals=terminals, seed=0)
    show_off(settings, USE)


def _show_landed(done: LandingSummary, landing: Path, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "rows": done.rows,
                "frauds": done.frauds,
                "days": done.days,
                "files": done.files,
                "landing": str(landing),
            }
        )
        return
    typer.echo(
        f"landed {done.rows:,} transactions with {done.frauds:,} frauds over {done.days} days in {landing}"
    )
