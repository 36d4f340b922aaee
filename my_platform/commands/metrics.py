"""The command about the platform's own metrics."""

import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from my_platform.commands.console import Json, complain, print_json, settings_of_call
from my_platform.errors import PlatformError


def metrics(
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Serve them on this TCP port of loopback; 0 takes a free one."),
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option(help="Write them into this file, as node-exporter's textfile collector reads it."),
    ] = None,
    as_json: Json = False,
) -> None:
    """What is owed, computed and spent, in Prometheus' text format."""
    from my_platform.operations import session
    from my_platform.operations.metrics import as_json as told
    from my_platform.operations.metrics import collect, exposition
    from my_platform.storage.objects import replace_file

    if port is not None and (into is not None or as_json):
        raise PlatformError("--port serves the metrics until it is interrupted; leave --into and --json out")
    with session.opened(settings_of_call()) as opened:
        if port is not None:
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
            with suppress(KeyboardInterrupt):
                _serve(port, lambda: exposition(collect(opened.settings, opened.workspace, opened.heads)))
            return
        found = collect(opened.settings, opened.workspace, opened.heads)
    if into is not None:
        try:
            replace_file(into.expanduser().absolute(), exposition(found).encode())
        except OSError as error:
            raise PlatformError(f"--into {into} cannot be written: {error.strerror}") from error
    if as_json:
        print_json({"metrics": told(found)})
    elif into is None:
        typer.echo(exposition(found), nl=False)


def _serve(port: int, text: Callable[[], str]) -> None:
    from my_platform.operations.metrics_endpoint import LOOPBACK, listening

    with listening(port, text, complain) as server:
        typer.echo(f"http://{LOOPBACK}:{server.server_port}/metrics")
        sys.stdout.flush()
        server.serve_forever()
