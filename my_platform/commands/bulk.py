"""The commands about what was scored: in bulk, by the service, and with which data."""

from pathlib import Path
from typing import Annotated

import typer

from my_platform.commands.console import Json, complain, print_json, settings_of_call, show_table


def add_bulk_commands(app: typer.Typer) -> None:
    """Make the commands part of an application."""
    app.command()(score)
    app.command("land-log")(land_log)
    app.command("blast-radius")(blast_radius)


def score(
    file: Annotated[Path, typer.Argument(help="Rows with the champion's features, Parquet or CSV.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The Parquet file to write.")],
    use: Annotated[str | None, typer.Option(help="What the model is for; default: the only one.")] = None,
    as_json: Json = False,
) -> None:
    """Score a file of rows with the champion: exit code 1 where rows went to quarantine."""
    from my_platform.learning.bundle import read_bundle
    from my_platform.learning.registry_place import RegistryPlace
    from my_platform.serving.bulk import score_file

    settings = settings_of_call()
    place = RegistryPlace.of(settings)
    ledger = place.promotions()
    champion = ledger.standing(ledger.use_named(use)).champion
    assert champion is not None
    bundle = read_bundle(place.bundles, champion.bundle)
    found = score_file(file, output, bundle, threads=settings.threads).as_json()
    if as_json:
        print_json(found)
    else:
        typer.echo(f"{found['scored']:,} rows scored by {champion.model}@{champion.week} into {output}")
        if found["quarantined"]:
            complain(f"{found['quarantined']:,} rows are in {found['quarantine']}, with the reason")
    if found["quarantined"]:
        raise SystemExit(1)


def land_log(as_json: Json = False) -> None:
    """Land what the service scored and was told, as tables by day: finished days that changed since they landed."""
    from my_platform.operations.home import land_logs, prepare_domains, prepare_home

    settings = settings_of_call()
    prepare_home(settings)
    prepare_domains(settings)
    found = {table: landed.as_json() for table, landed in land_logs(settings).items()}
    if as_json:
        print_json(found)
        return
    rows = [
        [table, day, f"{number:,}"]
        for table, landed in found.items()
        for day, number in landed["written"].items()
    ]
    show_table(["table", "day", "rows"], rows) if rows else typer.echo("nothing to land")
    for landed in found.values():
        for said in (*landed.get("differing", ()), *landed.get("problems", ())):
            complain(said)


def blast_radius(
    asset: Annotated[str, typer.Argument(help="For example validated/orders.")],
    partition: Annotated[
        str, typer.Argument(help="Its day or week, YYYY-MM-DD; none for an unpartitioned asset.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Which predictions of the service used a partition, through their features or their model; --json lists them."""
    from my_platform.learning.registry_place import RegistryPlace
    from my_platform.operations import session
    from my_platform.operations.blast_radius import blast_radius as reached
    from my_platform.operations.home import load_logged

    settings = settings_of_call()
    place = RegistryPlace.of(settings)
    place.pull()
    with session.opened(settings) as opened:
        found = reached(
            opened.workspace,
            opened.versions(),
            load_logged(settings),
            place.bundles,
            asset,
            partition,
        ).as_json()
    if as_json:
        print_json(found)
        return
    rows = [
        [
            each["day"],
            f"{each['model']}@{each['week']}",
            each["bundle"][:12],
            f"{each['rows']:,}",
            " and ".join(each["through"]),
        ]
        for each in found["by_day"]
    ]
    if rows:
        show_table(["day", "model", "bundle", "predictions", "through"], rows)
    typer.echo(f"{found['predictions']:,} predictions used {asset} {partition}".rstrip())
