"""Bringing a home up to date, and what came out of it."""

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from my_platform.commands.console import (
    Json,
    complain,
    day_given,
    print_json,
    progress,
    settings_of_call,
    show_table,
)
from my_platform.errors import PlatformError

if TYPE_CHECKING:
    from my_platform.settings import Settings


def refresh(
    select: Annotated[
        str | None,
        typer.Option(
            help="Only these assets: names with commas between them, or a Dagster selection such as group:features."
        ),
    ] = None,
    first: Annotated[
        str | None, typer.Option("--from", help="Only partitions from this day on, YYYY-MM-DD.")
    ] = None,
    through: Annotated[str | None, typer.Option(help="Only partitions through this day, YYYY-MM-DD.")] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Run again what was refused.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Hash every landed file and check every stored value.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Bring everything up to date: compute exactly what is owed."""
    started = time.perf_counter()
    bounds = (
        day_given(first, "--from") if first else None,
        day_given(through, "--through") if through else None,
    )
    if bounds[0] and bounds[1] and bounds[0] > bounds[1]:
        raise PlatformError(f"--from {first} is after --through {through}; there is no day in between")
    from my_platform.operations import session

    with session.opened(settings_of_call()) as opened, progress("computing", 0, as_json) as advance:
        report = opened.refresh(
            select=select,
            first=bounds[0],
            through=bounds[1],
            retry=retry,
            verify=verify,
            on_plan=lambda total: advance.total(total),
            on_partition=lambda asset, key, _kind: advance(f"{asset} {key}".strip()),
        )
    report.seconds = time.perf_counter() - started
    if as_json:
        print_json(report.as_json())
    else:
        _show_refresh(report.as_json(), report.problems)
    if report.problems:
        sys.exit(1)


def evaluation(
    week: Annotated[
        str | None, typer.Option(help="T0, the first day of the week, YYYY-MM-DD; default: the last one.")
    ] = None,
    use: Annotated[
        str | None, typer.Option(help="What the model is for; default: the only one, or the first.")
    ] = None,
    as_json: Json = False,
) -> None:
    """The figures of a week's model, with what there is to compare them with."""
    if week is not None:
        day_given(week, "--week")
    from my_platform.operations import session

    with session.opened(settings_of_call()) as opened:
        evaluated = opened.evaluated(week, use)
    if as_json:
        print_json(evaluated.figures)
        return
    shown = evaluated.contender.summary(evaluated.figures)
    typer.echo("\n".join(shown.lines))
    show_table(list(shown.header), [list(row) for row in shown.rows])


def show_off(settings: "Settings", use: str) -> None:
    """Bring a home that has landed up to date, show the figures of its last week, and say where to look."""
    refresh(select=None, first=None, through=None, retry=False, verify=False)
    typer.echo("")
    evaluation(week=None, use=use)
    reports = sorted((settings.reports / use).glob("*/*.html"))
    typer.echo("")
    typer.echo("Where to look:")
    typer.echo(f"  the last evaluation report  {reports[-1]}")
    typer.echo("  who serves, and why         my-platform models, my-platform promotions")
    typer.echo(f"  all computed tables         {settings.lake}")
    typer.echo(f"  model runs (MLflow)         {settings.mlflow_folder / 'mlflow.db'}")
    typer.echo(f"  the asset graph             make ui, then http://127.0.0.1:{settings.port}")


def _show_refresh(report: dict[str, Any], problems: Sequence[str]) -> None:
    rows = []
    for asset in sorted({*report["computed"], *report["reused"], *report["withdrawn"], *report["failed"]}):
        counts = [len(report[kind].get(asset, ())) for kind in ("computed", "reused", "withdrawn", "failed")]
        rows.append([asset, *(str(count or "") for count in counts)])
    if rows:
        show_table(["asset", "computed", "reused", "withdrawn", "failed"], rows)
    else:
        typer.echo("everything is up to date")
    runs = report["runs"]
    typer.echo(f"{runs} run{'' if runs == 1 else 's'}, {report['seconds']:.1f} s")
    if asked := report.get("bucket"):
        typer.echo(
            f"{asked['requests']:,} requests to the bucket: {asked['put']:,} put, {asked['get']:,} get, {asked['head']:,} "
            f"head, {asked['list']:,} list; {asked['bytes_read']:,} bytes read, {asked['bytes_written']:,} written"
        )
    for damage in report.get("damaged", ()):
        typer.echo(damage)
    for file in report.get("unfinished", ()):
        typer.echo(f"{file} is still being written; it is taken when it is finished")
    for reason in report.get("misnamed", {}).values():
        typer.echo(reason)
    for reason in problems:
        complain(reason)
