"""The scoring service as one application: it watches for a new champion, and says how it does."""

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException

from my_platform.serving.case_paths import add_cases
from my_platform.serving.cases import CaseDesk
from my_platform.serving.champion import Champion, Found
from my_platform.serving.declaration import Service
from my_platform.serving.endpoint import Endpoint
from my_platform.serving.gate import Bounds
from my_platform.serving.interface import describe
from my_platform.serving.log import PredictionLog
from my_platform.serving.model import features_by_name
from my_platform.serving.page_paths import add_page
from my_platform.serving.replies import Answers, told_of
from my_platform.serving.reply import Failure, Reply
from my_platform.serving.requests import Problem, RequestModels
from my_platform.serving.scorer import Scorer
from my_platform.serving.state import OnlineState
from my_platform.serving.telemetry import Telemetry, write_health
from my_platform.serving.tokens import Tokens
from my_platform.serving.write_behind import WriteBehind

_STORED_ROWS = 32
# Steps of priority that writing the state stands behind scoring.
_BEHIND = 10
# What failed is not tried again sooner.
_AGAIN_S = 1.0

logger = logging.getLogger("my_platform.serving")


@dataclass(frozen=True)
class Rhythm:
    """Seconds between two writes of the state, two looks at the ledger, at the partitions, and two words of the health.

    `bucket_s` is for two looks at the bucket in which machines share the ledger, if they do.
    """

    # So often that a write is short: one of a tenth of a second held requests up for 5 ms.
    state_s: float = 0.005
    ledger_s: float = 1.0
    bucket_s: float = 2.0
    partitions_s: float = 60.0
    health_s: float = 10.0


class ScoringService:
    """All parts of a service on one home.

    Args:
        state: bootstrapped; the log's tail is taken in here.
        whole: whether that state is new, so that it has nothing of the log yet.
        reconcile: reads partitions that changed, in another thread, and returns what takes them in.
        behind: the state's store where it has something to write in another thread; None where it writes at once.
        on_start: called when requests are answered from now on, and signals end the service in good order.
    """

    def __init__(
        self,
        service: Service,
        state: OnlineState,
        log: PredictionLog,
        champion: Champion,
        tokens: Tokens,
        bounds: Bounds,
        *,
        most_rows: int,
        whole: bool,
        health: Path | None = None,
        reconcile: Callable[[], Callable[[], int] | None] | None = None,
        behind: WriteBehind | None = None,
        rhythm: Rhythm | None = None,
        on_start: Callable[[], None] = lambda: None,
    ) -> None:
        self._service, self._champion, self._log = service, champion, log
        self._health, self._reconcile, self._rhythm = health, reconcile, rhythm or Rhythm()
        self._behind, self._on_start = behind, on_start
        self._appended = asyncio.Event()
        if behind is not None:
            behind.on_first = self._appended.set
            if behind.waits:
                self._appended.set()
        self._writer = ThreadPoolExecutor(1, "state", initializer=_step_back)
        self._sets = state.sets
        self.models = RequestModels(service, most_rows)
        self.scorer = Scorer(service, self.models, state, log)
        self.caught_up = self.scorer.catch_up(whole=whole)
        self.desk = CaseDesk(service, service.cases, self.models, self.scorer, log) if service.cases else None
        self.telemetry = Telemetry()
        self._tasks: set[asyncio.Task[None]] = set()
        answers = Answers(service.key, champion.place.bundles, self._sets)
        self.rest = self._rest()
        self.endpoint = Endpoint(
            service, self.models, self.scorer, answers, tokens, bounds, self.telemetry, self.rest, self.desk
        )

    def watch_champion(self) -> None:
        """Take up what the ledger names now."""
        if self._champion.moved():
            self._take_up(self._champion.look(self.scorer.model, self._stored()))

    def told(self) -> dict[str, Any]:
        """What `GET /v1/model` answers."""
        model, shadow, refusal = self.scorer.model, self.scorer.shadow, self._champion.refusal
        return {
            "use": self._service.use,
            "serving": None
            if model is None
            else {
                **told_of(model.about, model.digest, self._sets),
                "threshold": model.threshold,
                "threshold_policy": {**model.decided[0].as_json(), "note": model.decided[1]},
                "features": list(model.features),
            },
            "shadow": shadow.digest if shadow else None,
            "refused": None if refusal is None else refusal._asdict(),
        }

    def _take_up(self, found: Found) -> None:
        if self._champion.take_up(self.scorer, found) and self.scorer.model is not None:
            model = self.scorer.model
            self.telemetry.serves(model.digest, model.about["model"], model.about["week"])
            logger.info(
                "serving %s %s, bundle %s", model.about["model"], model.about["week"], model.digest[:12]
            )
        self.telemetry.refuses(found.refused)
        if found.refusal is not None:
            logger.error("a bundle is refused, and what serves goes on: %s", found.refusal.why)

    def _stored(self) -> list[Mapping[str, float | None]]:
        """Features by name of the rows that were scored last, as far as they are of the present bundle."""
        model = self.scorer.model
        found: list[Mapping[str, float | None]] = []
        for prediction in self._log.latest_predictions():
            if model is None or prediction.bundle != model.digest or len(found) == _STORED_ROWS:
                break
            found.append(features_by_name(model.about, prediction.features))
        return found

    async def _follow_ledger(self) -> None:
        if self._champion.moved():
            serving, stored = self.scorer.model, self._stored()
            self._take_up(await asyncio.to_thread(self._champion.look, serving, stored))

    async def _follow_bucket(self) -> None:
        await asyncio.to_thread(self._champion.pull)

    async def _follow_partitions(self) -> None:
        if self._reconcile is not None:
            take_in = await asyncio.to_thread(self._reconcile)
            if take_in is not None:
                logger.info("took %s events of changed partitions in", f"{take_in():,}")
                self.telemetry.took_in()

    async def _tell_health(self) -> None:
        health = self.telemetry.health
        if self._health is not None and health is not None:
            await asyncio.to_thread(write_health, self._health, health)

    async def _settle_state(self) -> None:
        # A service that idles is not woken.
        await self._appended.wait()
        self._appended.clear()
        if self._behind is not None:
            try:
                await asyncio.get_running_loop().run_in_executor(self._writer, self._behind.flush)
            except Exception:
                self._appended.set()
                raise

    async def _settle_log(self) -> None:
        await asyncio.to_thread(self._log.settle)

    @contextlib.asynccontextmanager
    async def lifespan(self, _: FastAPI | None = None) -> AsyncIterator[None]:
        """Follow the ledger and the partitions, and write the state, as long as this is open."""
        shared = self._champion.place.is_shared
        if shared:
            await self._follow_bucket()
        self.watch_champion()
        for action, every_s in (
            (self._settle_state, self._rhythm.state_s),
            *([(self._follow_bucket, self._rhythm.bucket_s)] if shared else []),
            (self._follow_ledger, self._rhythm.ledger_s),
            (self._follow_partitions, self._rhythm.partitions_s),
            (self._tell_health, self._rhythm.health_s),
            (self._settle_log, self._rhythm.health_s),
        ):
            task = asyncio.create_task(_again_and_again(action, every_s))
            self._tasks.add(task)
        self._on_start()
        yield
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._tell_health()
        self._writer.shutdown()

    def _rest(self) -> FastAPI:
        app = FastAPI(
            title="my_platform scoring service",
            version="1",
            docs_url=None,
            redoc_url=None,
            lifespan=self.lifespan,
        )

        @app.get("/v1/model")
        async def model() -> Response:
            """Which model serves, its features and threshold, and why a newer champion does not."""
            return _json(self.told())

        @app.get("/healthz")
        async def alive() -> Response:
            """Whether the process answers."""
            return _json({"alive": True})

        @app.get("/readyz")
        async def ready() -> Response:
            """Whether a model serves: 503 where none does."""
            if self.scorer.model is None:
                refusal = self._champion.refusal
                why = (
                    refusal.why
                    if refusal
                    else f"no champion of {self._service.use} serves yet; promote a model"
                )
                return _sent(Failure(503, "not_ready", why, wait_s=1).reply())
            return _json({"ready": True})

        @app.get("/metrics")
        async def metrics() -> Response:
            """All metrics in Prometheus' text format."""
            return Response(self.telemetry.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

        @app.exception_handler(HTTPException)
        async def refused(_: Request, error: Exception) -> Response:
            assert isinstance(error, HTTPException)
            sent = _sent(Failure(error.status_code, "http", str(error.detail)).reply())
            sent.headers.update(error.headers or {})
            return sent

        @app.exception_handler(RequestValidationError)
        async def invalid(_: Request, error: Exception) -> Response:
            assert isinstance(error, RequestValidationError)
            problems = [Problem(str(each["loc"][-1]), each["msg"]) for each in error.errors()]
            told = "; ".join(f"{field}: {why}" for field, why in problems)
            return _sent(Failure(422, "invalid", told, problems).reply())

        add_page(app, self._log.path)
        if self.desk is not None:
            add_cases(app, self.desk)
        describe(app, self._service, self.models)
        return app


def _step_back() -> None:
    """Let this thread have what the thread that scores leaves of their core, where threads have priorities."""
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _BEHIND)


async def _again_and_again(action: Callable[[], Awaitable[None]], every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        try:
            await action()
        except Exception:
            again_s = max(every_s, _AGAIN_S)
            logger.exception("%s failed; it is tried again in %s s", action.__name__.strip("_"), again_s)
            await asyncio.sleep(again_s - every_s)


def _json(value: Any) -> Response:
    return Response(to_json(value, inf_nan_mode="null"), media_type="application/json")


def _sent(reply: Reply) -> Response:
    sent = Response(reply.body, reply.status, media_type="application/json")
    for name, value in reply.headers:
        sent.headers[name.decode()] = value.decode()
    return sent
