"""The page for people at `/`, and the recent decisions that it shows."""

import asyncio
import base64
import hashlib
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Query, Response
from pydantic_core import to_json

from my_platform.serving.glance import recent_decisions

DECISIONS = "/v1/decisions"
_MOST = 200


def add_page(app: FastAPI, log: Path) -> None:
    """Let an application serve the page, and the decisions of a prediction log."""
    page = files("my_platform.serving").joinpath("page.html").read_bytes()
    headers = page_headers(page)

    @app.get("/", include_in_schema=False)
    async def of_people() -> Response:
        """The page: one file, which asks the service as any client does."""
        return Response(page, media_type="text/html; charset=utf-8", headers=dict(headers))

    @app.get(
        DECISIONS,
        summary="The last decisions, the latest first, and how the service does by the last of them",
    )
    async def decisions(
        limit: Annotated[int, Query(ge=1, le=_MOST, description="decisions to show")] = 50,
    ) -> Response:
        found = await asyncio.to_thread(recent_decisions, log, limit)
        return Response(to_json(found, inf_nan_mode="null"), media_type="application/json")


def page_headers(page: bytes) -> Mapping[str, str]:
    """Headers under which a page runs the scripts and styles that stand in it, by their SHA-256, and no others."""
    allowed = {}
    for kind in ("script", "style"):
        blocks = re.findall(rb"<%s>(.*?)</%s>" % (kind.encode(), kind.encode()), page, re.S)
        allowed[kind] = " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(block).digest()).decode()}'" for block in blocks
        )
    policy = (
        f"default-src 'none'; script-src {allowed['script']}; style-src {allowed['style']}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cache-Control": "no-cache",
    }
