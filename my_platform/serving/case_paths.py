"""The paths at which cases are read; outcomes come by the way of all bodies, see ``endpoint``."""

import asyncio
from typing import Annotated

from fastapi import FastAPI, Query, Response
from pydantic_core import to_json

from my_platform.serving.cases import CaseDesk, UnknownCase
from my_platform.serving.reply import JSON, Failure

_MOST = 200


def add_cases(app: FastAPI, desk: CaseDesk) -> None:
    """Let an application list and show the cases of a desk."""

    @app.get("/v1/cases", summary="The cases, open ones first, by their highest probability")
    async def cases(
        limit: Annotated[int, Query(ge=1, le=_MOST, description="cases of a page")] = 50,
        offset: Annotated[int, Query(ge=0, le=2**31, description="cases before this page")] = 0,
    ) -> Response:
        return _json(await asyncio.to_thread(desk.listed, limit, offset))

    @app.get("/v1/cases/{case}", summary="A case with its outcomes and flagged rows, each with its reasons")
    async def case(case: str) -> Response:
        try:
            return _json(await asyncio.to_thread(desk.shown, case))
        except UnknownCase as error:
            reply = Failure(404, "unknown_case", str(error)).reply()
            return Response(reply.body, reply.status, media_type="application/json")


def _json(found: object) -> Response:
    return Response(to_json(found, inf_nan_mode="null"), media_type=JSON[1].decode())
