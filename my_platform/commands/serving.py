"""The command that serves."""

import signal
import socket
import sys
from contextlib import suppress
from typing import Annotated

import typer

from my_platform.commands.console import settings_of_call
from my_platform.errors import PlatformError
from my_platform.settings import Settings
from my_platform.storage.bucket import Patience

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
# Who serves has a champion, and looks again soon: its end does not wait for a bucket.
_PATIENCE = Patience(total_s=2.0, silence_s=5.0)


def serve(
    use: Annotated[
        str | None, typer.Argument(help="What the model is for; default: the only one that is declared.")
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Where to listen; default: MY_PLATFORM_SERVE_HOST.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Default: MY_PLATFORM_SERVE_PORT; 0 takes a free one."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=64,
            help="Processes that speak HTTP on the port, beside the one that scores; default: MY_PLATFORM_SERVE_WORKERS, "
            "and where that is 1 one process does both.",
        ),
    ] = None,
) -> None:
    """Score rows by HTTP with the champion, until it is interrupted or terminated."""
    from my_platform.settings import load_settings

    settings = settings_of_call()
    chosen = {"serve_host": host, "serve_port": port, "serve_workers": workers}
    settings = load_settings(**chosen) if any(each is not None for each in chosen.values()) else settings
    # Also once uvicorn has ended by it, which raises it again.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with suppress(KeyboardInterrupt):
        _serve(settings, use)


def _serve(settings: Settings, use: str | None) -> None:
    from my_platform.learning.registry_place import RegistryPlace
    from my_platform.operations import session
    from my_platform.operations.serving import Partitions, service_of, serving_state
    from my_platform.serving.app import Rhythm, ScoringService
    from my_platform.serving.champion import Champion
    from my_platform.serving.gate import Bounds
    from my_platform.serving.keeper import Keeper
    from my_platform.serving.log import PredictionLog
    from my_platform.serving.server import served_until_ended
    from my_platform.serving.tokens import Tokens, read_tokens

    token = settings.serve_token.get_secret_value() if settings.serve_token else None
    tokens = read_tokens(settings.serve_tokens, token)
    if settings.serve_host not in _LOOPBACK and not tokens:
        raise PlatformError(
            f"{settings.serve_host} can be reached from elsewhere, and anyone there could ask: name a file of tokens in "
            "MY_PLATFORM_SERVE_TOKENS, or listen at 127.0.0.1"
        )
    bounds = Bounds(settings.serve_most_bytes, settings.serve_body_s)
    listening = _listening(settings)
    with session.opened(settings) as opened:
        service = service_of(settings, use)
        forms = service.forms()
        state, store = serving_state(settings, service, forms)
        log = PredictionLog(
            settings.serving / service.use / "log.sqlite", durability=settings.serve_durability
        )
        partitions = Partitions(forms, opened.workspace, opened.heads, state, store)
        new = not any(store.versions(form.feature_set.name) for form in forms)
        taken = partitions.take_in()
        champion = Champion(
            RegistryPlace.of(settings, _PATIENCE),
            service.use,
            list(state.features),
            opened.workspace.project.code_versions,
            settings.serve_shadow,
        )
        scoring = ScoringService(
            service,
            state,
            log,
            champion,
            Tokens(tokens, settings.serve_rate),
            bounds,
            most_rows=settings.serve_most_rows,
            whole=new,
            health=settings.service_health,
            reconcile=partitions.later,
            behind=store,
            rhythm=Rhythm(partitions_s=settings.serve_reconcile_s),
            on_start=lambda: typer.echo(f"listening at {_url(listening)}"),
        )
        typer.echo(
            f"online state: {taken:,} events of partitions, {scoring.caught_up:,} of the prediction log taken in",
            err=True,
        )
        try:
            if settings.serve_workers == 1:
                served_until_ended(listening, scoring.endpoint)
            else:
                Keeper(scoring, listening, settings.serve_workers, tokens, bounds).run()
        finally:
            log.close()
            store.close()


def _listening(settings: Settings) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in settings.serve_host else socket.AF_INET
        return socket.create_server((settings.serve_host, settings.serve_port), family=family, backlog=1024)
    except OSError as error:
        raise PlatformError(
            f"cannot listen at {settings.serve_host} port {settings.serve_port}: {error.strerror}; choose another with "
            "--port or MY_PLATFORM_SERVE_PORT"
        ) from error


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
