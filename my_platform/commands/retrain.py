"""The command that asks the retraining policies."""

import getpass
from typing import Annotated

import typer

from my_platform.commands.console import Json, print_json, settings_of_call, show_table
from my_platform.errors import PlatformError


def retrain(
    model: Annotated[
        str | None, typer.Argument(help="The model asset; default: all with a retraining policy.")
    ] = None,
    now: Annotated[
        str | None,
        typer.Option("--now", help="Fit the latest week, for this reason, whatever its policy says."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be decided, and decide nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Decide by the retraining policies which weeks of models are fitted, and why. `refresh` fits them then."""
    if now is not None and not now.strip():
        raise PlatformError('--now needs the reason: --now "the new terminals are in"')
    from my_platform.operations import session
    from my_platform.operations.home import open_registry, retraining_lock
    from my_platform.operations.retraining.decide import POLICY, Asking, with_policies
    from my_platform.operations.retraining.decide import retrain as ask

    settings = settings_of_call()
    with session.opened(settings) as opened:
        names = with_policies(opened.workspace, model)
        if now is not None and len(names) != 1:
            raise PlatformError(
                f"--now is about one model; name it: {', '.join(names) or 'none has a policy'}"
            )
        asking = Asking(getpass.getuser() if now else POLICY, now or "", dry_run)
        registry, lock = open_registry(settings), retraining_lock(settings)
        found = ask(opened.workspace, opened.heads, registry, lock, names, asking)
    if as_json:
        print_json({"dry_run": dry_run, "models": [each.as_json() for each in found]})
        return
    for each in found:
        typer.echo(each.said)
        verdict = each.verdict
        if verdict is None or not verdict.fits:
            continue
        show_table(
            ["week", "", "reason"],
            [[fit.week, fit.role, fit.reason] for fit in sorted(verdict.fits, key=lambda f: f.week)],
        )
        typer.echo(verdict.gate)
    if not found:
        typer.echo("no model has a retraining policy: each week is fitted as soon as what it reads is there")
    elif dry_run:
        typer.echo("nothing was decided: that was a dry run")
    elif any(each.written for each in found):
        typer.echo("`my-platform plan` says what that causes, and `my-platform refresh` does it")
