"""The commands about models: who serves, who may, and what it all cost."""

import getpass
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from my_platform.commands.console import Json, complain, print_json, settings_of_call, show_table
from my_platform.errors import PlatformError

_ALIASES = "an alias (champion, challenger, previous), or an asset for its latest week, or ASSET@WEEK"
Name = Annotated[str, typer.Argument(help=f"The model: {_ALIASES}.")]
Reason = Annotated[str, typer.Option(help="Why; it is kept in the ledger.")]

_FIGURES = {
    "average_precision": "average precision",
    "auc_roc": "AUC ROC",
    "mae": "MAE",
    "rmse": "RMSE",
    "skill": "skill",
    "calibration": "calibration",
}

# Of a use whose models were not evaluated yet.
_FIGURES_BEFORE = ("average_precision", "auc_roc", "calibration")


def add_model_commands(app: typer.Typer) -> None:
    """Make the commands part of an application."""
    for command in (models, promote, rollback, compare, health, reproduce, promotions, costs):
        app.command()(command)


def models(as_json: Json = False) -> None:
    """The registered models, the latest first: who is champion, how good they are, what the gate said."""
    from my_platform.operations import session

    with session.opened(settings_of_call()) as opened:
        found = opened.models.overview()
    if as_json:
        print_json(found)
        return
    registered = [of_use["models"] for of_use in found["uses"].values() if of_use["models"]]
    for of_one_use in registered:
        _show_models(of_one_use)
    if not registered:
        typer.echo("no model is registered; run `my-platform refresh` first")
    for use, of_use in found["uses"].items():
        if of_use["other_code"]:
            complain(f"the code has moved on since the champion of {use}: {', '.join(of_use['other_code'])}")


def promote(
    model: Name,
    reason: Reason = "",
    force: Annotated[
        bool, typer.Option("--force", help="Overrule the gate, but for budget and checks; needs a reason.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a model the champion, if the gate lets it pass: exit code 1 where it does not."""
    from my_platform.operations import session
    from my_platform.operations.promotion import promote as promoted

    if force and not reason.strip():
        raise PlatformError("--force overrules the gate: say why with --reason")
    with session.opened(settings_of_call()) as opened:
        candidate = opened.models.current(opened.models.named(model))
        done = promoted(opened.models, candidate, who=getpass.getuser(), why=reason, forced=force)
    if as_json:
        print_json(done.as_json())
    else:
        _show_promotion(done)
    if not done.serves:
        raise SystemExit(1)


def rollback(
    use: Annotated[str | None, typer.Argument(help="What the model is for; default: the only one.")] = None,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Make the former champion the champion again; its bundle is checked, and MLflow's aliases follow."""
    started = time.perf_counter()
    from my_platform.learning.registry import Registry
    from my_platform.storage.bucket import Patience
    from my_platform.storage.places import open_place

    settings = settings_of_call()
    registry = Registry.of(settings)
    use = registry.ledger.use_named(use)
    place = open_place(settings.landing, Patience.of(settings))
    line = registry.roll_back(use, who=getpass.getuser(), why=reason, place=place)
    assert line.before is not None
    seconds = round(time.perf_counter() - started, 3)
    if as_json:
        print_json(
            {
                "use": use,
                "champion": _told(line.after),
                "before": _told(line.before),
                "bundle": line.after.bundle,
                "seconds": seconds,
            }
        )
    else:
        typer.echo(
            f"{_told(line.after)} is champion of {use} again, {_told(line.before)} no more ({seconds} s)"
        )
    registry.set_aliases(use)


def compare(
    first: Name,
    second: Name,
    as_json: Json = False,
) -> None:
    """What the second model gains over the first on the weeks that both were tested on."""
    from my_platform.operations import session
    from my_platform.operations.comparison import compare as compared

    with session.opened(settings_of_call()) as opened:
        found = compared(opened.models, opened.models.named(first), opened.models.named(second))
    print_json(found) if as_json else _show_comparison(found)


def health(
    act: Annotated[
        bool, typer.Option("--act", help="Go back to the former champion where a limit is breached.")
    ] = False,
    as_json: Json = False,
) -> None:
    """How the champions do since their promotion: exit code 1 where one breaches its limits or cannot be read."""
    from my_platform.operations import session
    from my_platform.operations.health import look_after

    settings = settings_of_call()
    with session.opened(settings) as opened:
        found = look_after(opened.models, service=settings.service_health, act=act, alert=complain)
    if as_json:
        print_json({"champions": [looked.as_json() for looked in found]})
    elif not found:
        typer.echo("no model was ever promoted")
    else:
        rows = [
            [
                looked.use,
                _told(looked.champion),
                _figure(looked.health.promoted_on),
                ", ".join(f"{week} {interval.value:.3f}" for week, interval in looked.health.matured)
                or "none",
                _figure(looked.health.score_index),
                "breached" if looked.breached else "kept",
            ]
            for looked in found
        ]
        show_table(
            ["use", "champion", "promoted on", "weeks since", "score index", "limits"],
            rows,
        )
    for looked in found:
        for problem in looked.health.unreadable:
            complain(problem)
    if any(looked.breached or looked.health.unreadable for looked in found):
        raise SystemExit(1)


def reproduce(
    model: Name,
    into: Annotated[
        Path | None, typer.Option(help="An empty folder for the other home; default: one that is removed.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Build a model again on another home from the versions it was made from: exit code 1 where it is another one.

    A net that was fitted on another device may differ by as much as its domain declares.
    """
    from my_platform.operations import session
    from my_platform.operations.reproduction import reproduce as reproduced

    settings = settings_of_call()
    with session.opened(settings) as opened, tempfile.TemporaryDirectory(prefix="my_platform_") as folder:
        home = into.expanduser().absolute() if into else Path(folder)
        done = reproduced(opened.models, settings, opened.models.named(model), home)
    found = done.as_json()
    if as_json:
        print_json({**found, "home": str(home) if into else None})
    else:
        rows = [
            [name, versions["recorded"], versions["rebuilt"] or "none"]
            for name, versions in found["made"].items()
        ]
        show_table(["asset", "recorded", "built again"], rows)
        typer.echo(
            f"{found['partitions_taken']:,} partitions as they were recorded (training set {done.training_set_digest}): "
            + ("the same model" if done.same else "another model")
            + (f": {done.agreement}" if done.agreement else "")
        )
    for problem in (*(f"the code of {name} has moved on" for name in done.other_code), *done.problems):
        complain(problem)
    if not done.reproduced:
        raise SystemExit(1)


def promotions(as_json: Json = False) -> None:
    """The promotion ledger: who made which model champion, when and why, the earliest first."""
    from my_platform.learning.gate import figures_of
    from my_platform.learning.registry_place import RegistryPlace

    by_use = RegistryPlace.of(settings_of_call()).promotions().by_use()
    lines = [line for found in by_use.values() for line in found]
    if as_json:
        print_json({"promotions": [line.as_json() for line in lines]})
        return
    rows = [
        [line.at, line.use, line.action, _told(line.after), line.who, line.why, figures_of(line.gate)]
        for line in lines
    ]
    header = ["at", "use", "", "champion", "by", "why", "figures"]
    show_table(header, rows) if rows else typer.echo("no model was ever promoted")


def costs(
    by: Annotated[str, typer.Option(help="asset, week, run, or partition.")] = "asset",
    as_json: Json = False,
) -> None:
    """What was spent on computing: processor seconds, seconds by the clock, peak memory, bytes."""
    from typing import get_args

    from my_platform.operations.costs import By
    from my_platform.operations.costs import costs as summed
    from my_platform.operations.home import open_workspace
    from my_platform.operations.tuning import study_costs

    kinds = get_args(By)
    chosen = next((kind for kind in kinds if kind == by), None)
    if chosen is None:
        raise PlatformError(f"--by {by}: expected {', '.join(kinds)}")
    settings = settings_of_call()
    workspace = open_workspace(settings)
    raw = [asset.name for asset in workspace.project.assets.values() if asset.source is not None]
    studies = study_costs(settings, [contender.model for contender in workspace.project.contenders])
    found = summed(sorted([*workspace.lake.index.costs(), *studies], key=lambda c: c.at_s), chosen, raw)
    if as_json:
        print_json(found)
        return
    if not found["costs"]:
        typer.echo("nothing was computed")
        return
    rows = [[str(row[by]), *_spent(row)] for row in found["costs"]]
    header = [
        by,
        "partitions",
        "again",
        "CPU s",
        "GPU s",
        "wall s",
        "peak memory MB",
        "MB read",
        "MB written",
    ]
    show_table(header, [*rows, ["in all", *_spent(found["total"])]])


def _spent(row: dict[str, Any]) -> list[str]:
    return [
        f"{row['partitions']:,}",
        f"{row['recomputed'] or ''}",
        f"{row['cpu_seconds']:,.2f}",
        f"{row['gpu_seconds']:,.2f}" if row["gpu_seconds"] else "",
        f"{row['wall_seconds']:,.2f}",
        *(f"{row[name] / 1e6:,.1f}" for name in ("peak_memory_bytes", "bytes_read", "bytes_written")),
    ]


def _told(served: Any) -> str:
    return f"{served.model}@{served.week}"


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _show_models(models: list[dict[str, Any]]) -> None:
    """The models of a use, with the figures that they have in common."""
    names = dict.fromkeys(name for model in models for name in model["metrics"])
    shown = [name for name in _FIGURES if name in names] or list(_FIGURES_BEFORE)
    rows = [
        [
            f"{model['model']}@{model['week']}",
            model["number"],
            ", ".join(model["aliases"]),
            *(_figure(model["metrics"].get(name)) for name in shown),
            model["data_version"][:12],
            model["gate"],
        ]
        for model in models
    ]
    show_table(["model", "version", "alias", *(_FIGURES[name] for name in shown), "digest", "gate"], rows)


def _show_promotion(done: Any) -> None:
    named = f"{done.candidate.model}@{done.candidate.week}"
    if done.judged is None:
        typer.echo(f"{named} is champion of {done.candidate.use} already")
        return
    show_table(
        ["rule", "", "what was found"],
        [
            [reason.rule, "kept" if reason.kept else "broken", reason.said]
            for reason in done.judged.verdict.reasons
        ],
    )
    if done.line is None:
        complain(f"{named} is not promoted: {'; '.join(done.judged.verdict.against)}")
    else:
        overruled = ", the gate overruled" if done.line.forced else ""
        typer.echo(f"{named} is champion of {done.candidate.use} now{overruled}")


def _show_comparison(found: dict[str, Any]) -> None:
    first, second = (f"{found[side]['model']}@{found[side]['week']}" for side in ("first", "second"))
    measure = found["measure"]
    counted = [measure["counted"]] if measure["counted"] != "rows" else []
    rows = [
        [
            week["week"],
            f"{week['rows']:,}",
            *(f"{week[name]:,}" for name in counted),
            _figure(week["first"]),
            _figure(week["second"]),
        ]
        for week in found["weeks"]
    ]
    figures = [f"{measure['short']} {name}" for name in (first, second)]
    show_table(["week tested", "rows", *counted, *figures], rows)
    if found["same_recipe"]:
        typer.echo("both are of one recipe, so their weekly tests are the same")
    gain = found["gain"]
    if gain is None:
        typer.echo("no week was tested by both")
        return
    typer.echo(
        f"{measure['gained']} of {second} over {first}: {gain['value']:+.4f} "
        f"(95 %: {gain['low']:+.4f} to {gain['high']:+.4f})"
    )
    parts = [[part["name"], f"{part['positives']:,}", f"{part['gain']:+.4f}"] for part in found["slices"]]
    show_table(["slice", measure["counted"], "gain"], parts)
