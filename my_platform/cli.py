"""The ``my-platform`` command."""

import atexit
import gc
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from my_platform.commands.alerts import alerts
from my_platform.commands.audit import audit
from my_platform.commands.backfill import add_backfill_commands
from my_platform.commands.bulk import add_bulk_commands
from my_platform.commands.console import Json, complain, print_json, settings_of_call, show_table
from my_platform.commands.domain import WithDomains
from my_platform.commands.fetch import fetch
from my_platform.commands.forecast import add_forecast_commands
from my_platform.commands.metrics import metrics
from my_platform.commands.model import add_model_commands
from my_platform.commands.new_domain import new_domain
from my_platform.commands.quality import add_quality_commands
from my_platform.commands.refresh import evaluation, refresh
from my_platform.commands.retrain import retrain
from my_platform.commands.serving import serve
from my_platform.commands.state import add_state_commands
from my_platform.commands.threshold import threshold
from my_platform.commands.tuning import tune
from my_platform.errors import PlatformError
from my_platform.operations.faults import in_words, is_infrastructure

app = typer.Typer(
    name="my-platform",
    cls=WithDomains,
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
    except Exception as error:
        if not is_infrastructure(error):
            raise
        complain(in_words(error))
        sys.exit(1)
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


app.command()(refresh)
app.command()(evaluation)
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


add_model_commands(app)
add_bulk_commands(app)
app.command()(alerts)
app.command()(audit)
app.command()(metrics)
add_state_commands(app)
app.command()(fetch)
app.command()(retrain)
app.command()(threshold)
app.command()(tune)
app.command()(serve)
app.command("new-domain")(new_domain)


@app.command()
def ui(
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="TCP port on loopback.")] = None,
) -> None:
    """Dagster's web server and daemon on this home, on loopback, until interrupted."""
    from my_platform.operations.ui import serve

    settings = settings_of_call()
    sys.exit(serve(settings, port or settings.port))


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
