"""The command that searches for better parameters of a model."""

import getpass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from my_platform.commands.console import Json, complain, print_json, settings_of_call, show_table
from my_platform.errors import PlatformError

if TYPE_CHECKING:
    from my_platform.learning.tuning import Tuned

_ROWS_SHOWN = 8


def tune(
    model: Annotated[str, typer.Argument(help="The model asset, as `my-platform models` lists them.")],
    trials: Annotated[int, typer.Option(min=1, help="Trials of the whole study.")] = 30,
    minutes: Annotated[float, typer.Option(min=0, help="Minutes that this call may take.")] = 60,
    folds: Annotated[int, typer.Option(min=1, help="Weeks to search over, the last ones that may be.")] = 5,
    keep_out: Annotated[
        int,
        typer.Option(
            min=0, help="Labelled weeks that are not looked at, the last ones: the gate judges by them."
        ),
    ] = 4,
    seed: Annotated[int, typer.Option(help="Of the search and of the fits.")] = 1,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes that search side by side.")] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what was found and leave the parameters as they are.")
    ] = False,
    withdraw: Annotated[
        bool, typer.Option("--withdraw", help="Do not search: go back to the declared parameters.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Search for better parameters of a model; an interrupted search goes on. Exit code 1 where it is not over yet.

    What it finds becomes the model's parameters, and makes its weekly models stale, and nothing else.
    """
    from my_platform.learning.tuning import Budget
    from my_platform.operations import session, tuning

    settings = settings_of_call()
    with session.opened(settings) as opened:
        if withdraw:
            where = tuning.withdraw(opened.models, model, getpass.getuser())
            if as_json:
                print_json({"withdrawn": where})
            elif where is None:
                typer.echo(
                    f"{model} has the parameters that its domain declares; there is nothing to withdraw"
                )
            else:
                typer.echo(
                    f"{model} has the parameters again that its domain declares ({where}); refresh fits it"
                )
            return
        order = tuning.Order(model, Budget(trials, minutes), folds, keep_out, seed, workers)
        found = tuning.searched(opened.models, settings, order, complain)
        if found is None:
            raise PlatformError(
                f"the {minutes:g} minutes are over before {trials} trials are done; run the same command again and "
                "it goes on"
            )
        chosen = None if dry_run else tuning.adopt(opened.models, found, model, getpass.getuser())
        present = dict(tuning.tuning_of(opened.models.contender(model)).present)
    if as_json:
        print_json({**found.as_json(), "present": present, "chosen": chosen})
        return
    _show(found, present)
    if chosen:
        typer.echo(f"{model} has new parameters ({chosen}); `my-platform plan` says what that makes stale")
    elif dict(found.best) == present:
        typer.echo(f"nothing better was found: {model} keeps its parameters")


def _show(found: "Tuned", present: dict[str, Any]) -> None:
    names = list(present)
    rows = [
        [
            "present" if each.parameters == present else "",
            *(f"{each.parameters[name]:.4g}" for name in names),
            f"{each.mean:.4f}",
            " ".join(f"{score:.4f}" for score in each.by_seed),
        ]
        for each in found.finalists[:_ROWS_SHOWN]
    ]
    show_table(["", *names, "average precision", f"by seed {', '.join(map(str, found.seeds))}"], rows)
    states = ", ".join(f"{number} {state}" for state, number in found.trials.items())
    typer.echo(
        f"means over the weeks {', '.join(found.folds)}; trials: {states}; "
        f"{found.cost.cpu_s:,.0f} s of processor time"
    )
