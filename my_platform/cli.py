"""The ``my-platform`` command."""

import atexit
import gc
import os
import sys
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer

from my_platform.commands.alerts import alerts
from my_platform.commands.backfill import add_backfill_commands
from my_platform.commands.bulk import add_bulk_commands
from my_platform.commands.console import Json, complain, print_json, progress, settings_of_call, show_table
from my_platform.commands.forecast import add_forecast_commands
from my_platform.commands.metrics import metrics
from my_platform.commands.model import add_model_commands
from my_platform.commands.quality import add_quality_commands
from my_platform.commands.serving import serve
from my_platform.commands.threshold import threshold
from my_platform.commands.tuning import tune
from my_platform.errors import PlatformError

app = typer.Typer(
    name="my-platform",
    help="A machine-learning platform on Dagster that computes exactly the partitions that are owed.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def main() -> None:
    """Entry point: 0 when all is well, 1 when something failed or was refused, 2 when the call is wrong."""
    # What imports make lives until the end. Looking through it for garbage took a quarter of an idle refresh:
    # a third while the libraries load, and the rest when the interpreter ends.
    gc.set_threshold(50_000, 20, 100)
    atexit.register(gc.freeze)
    # A domain of the user's own is a module in the folder where the command is called.
    sys.path.insert(0, os.getcwd())
    try:
        app(_home_first(sys.argv[1:]), standalone_mode=True)
    except PlatformError as error:
        complain(str(error))
        sys.exit(2)
    except KeyboardInterrupt:
        complain("interrupted; what was committed stays, and the next refresh goes on from there")
        sys.exit(130)


@app.callback()
def _options(
    home: Annotated[
        Path | None,
        typer.Option(help="The folder of everything that the platform writes.", envvar="MY_PLATFORM_HOME"),
    ] = None,
) -> None:
    if home is not None:
        os.environ["MY_PLATFORM_HOME"] = str(home.expanduser().absolute())


@app.command()
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
    as_json: Json = False,
) -> None:
    """Land simulated card transactions, reports and profiles."""
    from datetime import timedelta

    from my_platform.domains.fraud import simulator

    settings = settings_of_call()
    if (days is None) == (append_days is None):
        raise PlatformError("say either --days N for a new simulation or --append-days N to go on with one")
    landing = _landing_folder(settings)
    with progress("landing", days or append_days or 0, as_json) as advance:
        if append_days is not None:
            done = simulator.append_days(landing, append_days, on_day=lambda day: advance(str(day)))
        else:
            assert days is not None
            first = _day(start, "--start") if start else date.today() - timedelta(days=days)
            config = simulator.SimulatorConfig(customers=customers, terminals=terminals, seed=seed)
            done = simulator.land_simulation(
                landing,
                first=first,
                days=days,
                config=config,
                closed=start is not None,
                on_day=lambda day: advance(str(day)),
            )
    _show_landed(done, landing, as_json)


@app.command("import-handbook")
def import_handbook(
    folder: Annotated[Path, typer.Argument(help="The folder with the daily Parquet files.")],
    first: Annotated[str | None, typer.Option("--from", help="First day to import, YYYY-MM-DD.")] = None,
    through: Annotated[str | None, typer.Option(help="Last day to import, YYYY-MM-DD.")] = None,
    as_json: Json = False,
) -> None:
    """Land the daily files of the Fraud Detection Handbook: transactions, and reports seven days later."""
    from my_platform.domains.fraud import handbook

    settings = settings_of_call()
    landing = _landing_folder(settings)
    with progress("landing", None, as_json) as advance:
        done = handbook.import_handbook(
            folder,
            landing,
            first=_day(first, "--from") if first else None,
            through=_day(through, "--through") if through else None,
            on_day=lambda day: advance(str(day)),
        )
    _show_landed(done, landing, as_json)


@app.command()
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
    bounds = (_day(first, "--from") if first else None, _day(through, "--through") if through else None)
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


@app.command()
def versions(as_json: Json = False) -> None:
    """The data version of every partition that is current."""
    from my_platform.operations import session

    with session.opened(settings_of_call()) as opened:
        found = opened.versions()
    if as_json:
        print_json(found)
        return
    show_table(
        ["asset", "partitions", "first", "last", "data version of the last"],
        [
            [asset, str(len(keys)), min(keys), max(keys), keys[max(keys)]]
            for asset, keys in found.items()
            if keys
        ],
    )


@app.command()
def evaluation(
    week: Annotated[
        str | None, typer.Option(help="T0, the first day of the week, YYYY-MM-DD; default: the last one.")
    ] = None,
    as_json: Json = False,
) -> None:
    """The figures of a week's model, with the published ones beside them."""
    if week is not None:
        _day(week, "--week")
    from my_platform.operations import session

    with session.opened(settings_of_call()) as opened:
        found = opened.evaluation(week)
    if as_json:
        print_json(found)
        return
    _show_evaluation(found)


add_backfill_commands(app)
add_forecast_commands(app)
add_quality_commands(app)


@app.command("gc")
def collect_garbage(
    keep_days: Annotated[int, typer.Option(min=0, help="Keep what was stored within this many days.")] = 30,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    as_json: Json = False,
) -> None:
    """Remove stored values that nothing refers to any more: no head, no model, no report, no candidate."""
    from my_platform.operations import session

    with session.opened(settings_of_call()) as opened:
        found = opened.collect(keep_days=keep_days, dry_run=dry_run).as_json()
    if as_json:
        print_json({**found, "dry_run": dry_run})
        return
    removed = found["removed"]
    assert isinstance(removed, dict)
    verb = "would remove" if dry_run else "removed"
    typer.echo(f"{verb} {sum(removed.values())} values of {found['bytes']:,} bytes; {found['kept']} are kept")


@app.command()
def prepare() -> None:
    """Make the home, and have dbt parse the marts if their files have changed."""
    from my_platform.operations.home import prepare_domains, prepare_home

    settings = settings_of_call()
    prepare_home(settings)
    prepare_domains(settings)


@app.command("dbt-docs")
def dbt_docs(as_json: Json = False) -> None:
    """Write dbt's documentation of the marts into the reports folder, and say where it is."""
    from my_platform.operations.home import document_domains, prepare_home

    settings = settings_of_call()
    prepare_home(settings)
    pages = [str(page) for page in document_domains(settings)]
    if as_json:
        print_json({"pages": pages})
    else:
        typer.echo("\n".join(pages))


@app.command()
def demo(
    days: Annotated[int, typer.Option(min=42, help="Days to simulate.")] = 120,
    customers: Annotated[int, typer.Option(min=1)] = 1000,
    terminals: Annotated[int, typer.Option(min=1)] = 2000,
) -> None:
    """Simulate card transactions, bring everything up to date, and say where to look."""
    settings = settings_of_call()
    landing = _landing_folder(settings)
    if not (landing / "calendar.json").exists():
        simulate(days=days, start=None, append_days=None, customers=customers, terminals=terminals, seed=0)
    refresh(select=None, first=None, through=None, retry=False, verify=False)
    typer.echo("")
    evaluation(week=None)
    reports = sorted((settings.reports / "fraud").glob("*/*.html"))
    typer.echo("")
    typer.echo("Where to look:")
    typer.echo(f"  the last evaluation report  {reports[-1]}")
    typer.echo("  who serves, and why         my-platform models, my-platform promotions")
    typer.echo(f"  all computed tables         {settings.lake}")
    typer.echo(f"  model runs (MLflow)         {settings.mlflow_folder / 'mlflow.db'}")
    typer.echo(f"  the asset graph             make ui, then http://127.0.0.1:{settings.port}")


add_model_commands(app)
add_bulk_commands(app)
app.command()(alerts)
app.command()(metrics)
app.command()(threshold)
app.command()(tune)
app.command()(serve)


@app.command()
def ui(
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="TCP port on loopback.")] = None,
) -> None:
    """Dagster's web server and daemon on this home, on loopback, until interrupted."""
    from my_platform.operations.ui import serve

    settings = settings_of_call()
    sys.exit(serve(settings, port or settings.port))


def _landing_folder(settings: Any) -> Path:
    from my_platform.operations.home import prepare_home

    if "://" in settings.landing:
        raise PlatformError(
            f"MY_PLATFORM_LANDING_URL is {settings.landing}; land into a folder and copy it there"
        )
    prepare_home(settings)
    return Path(settings.landing)


def _day(text: str, option: str) -> date:
    try:
        if len(text) != 10:
            raise ValueError
        return date.fromisoformat(text)
    except ValueError:
        raise PlatformError(
            f"{option} {text}: there is no such day; write a date that exists as YYYY-MM-DD"
        ) from None


def _home_first(arguments: list[str]) -> list[str]:
    """The arguments with ``--home`` before the command, where it may also follow it."""
    found: list[str] = []
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--home":
            value = next(words, None)
            if value is None:
                raise PlatformError("--home needs the folder of a home after it")
            found = ["--home", value]
        elif word.startswith("--home="):
            found = ["--home", word.partition("=")[2]]
        elif word == "--":
            rest += [word, *words]
        else:
            rest.append(word)
    return [*found, *rest]


def _show_landed(done: Any, landing: Path, as_json: bool) -> None:
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
    for damage in report.get("damaged", ()):
        typer.echo(damage)
    for file in report.get("unfinished", ()):
        typer.echo(f"{file} is still being written; it is taken when it is finished")
    for reason in report.get("misnamed", {}).values():
        typer.echo(reason)
    for reason in problems:
        complain(reason)


def _show_evaluation(found: dict[str, Any]) -> None:
    from my_platform.domains.fraud.report import PUBLISHED_FOR_WEEK

    typer.echo(f"week {found['week']}, {found['model']}")
    for part in ("train", "test"):
        span = found[part]
        typer.echo(
            f"  {part}: {span['from']} to {span['to']}, {span['rows']:,} rows, {span['frauds']:,} frauds"
            + (f", without {', '.join(span['days_without_rows'])}" if "days_without_rows" in span else "")
        )
    rows = [
        [name, *(f"{m[k]:.3f}" for k in ("auc_roc", "average_precision", "card_precision_at_100"))]
        for name, m in found["models"].items()
    ]
    rows += [
        [
            f"{p.model} (published, week 2018-08-08)",
            f"{p.auc_roc:.3f}",
            f"{p.average_precision:.3f}",
            f"{p.card_precision:.3f}",
        ]
        for p in PUBLISHED_FOR_WEEK
    ]
    show_table(["model", "AUC ROC", "average precision", "CP@100"], rows)
