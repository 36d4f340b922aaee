"""Commands that the domains of the settings bring along, such as one that lands simulated data."""

from functools import cached_property
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

from my_platform.commands.console import settings_of_call


class WithDomains(TyperGroup):
    """The platform's own commands, and behind them what the function `commands(app)` of each domain adds.

    Domains are imported for a command that the platform does not have itself, and for the list of all of them. Of one
    name the platform's own command counts, then that of the first domain.
    """

    @cached_property
    def _of_domains(self) -> dict[str, Any]:
        from my_platform.operations.home import load_domains

        found: dict[str, Any] = {}
        for module in load_domains(settings_of_call()):
            if hasattr(module, "commands"):
                app = typer.Typer()
                module.commands(app)
                found = {**get_group(app).commands, **found}
        return found

    def list_commands(self, ctx: Any) -> list[str]:
        return [*self._of_domains, *super().list_commands(ctx)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        own = super().get_command(ctx, cmd_name)
        return own if own is not None else self._of_domains.get(cmd_name)
