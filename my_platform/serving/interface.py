"""The service's own OpenAPI: its requests with examples, its answers, and every refusal."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from my_platform.serving.declaration import Service
from my_platform.serving.requests import RequestModels

_REFUSALS = {
    400: "a header was sent twice, or the connection ended within the body",
    401: "no token of this service was sent",
    403: "the token has not the scope",
    404: "nothing is there, or no such row was scored or landed",
    405: "another method",
    408: "the body did not come in time",
    409: "the id came before with another body",
    413: "too large",
    415: "the body is no JSON",
    421: "without tokens only loopback may ask",
    422: "the body is not what is asked for; `problems` names the fields",
    429: "the token asks too often; wait as `Retry-After` says",
    500: "the service failed, and stored nothing",
    503: "no model serves yet; wait as `Retry-After` says",
}
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "problems"],
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                "problems": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["field", "why"],
                        "properties": {"field": {"type": "string"}, "why": {"type": "string"}},
                    },
                },
            },
        }
    },
}


def describe(app: FastAPI, service: Service, models: RequestModels) -> None:
    """Let an application tell its whole OpenAPI, with what is answered before FastAPI is asked."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _openapi(app, service, models)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _openapi(app: FastAPI, service: Service, models: RequestModels) -> dict[str, Any]:
    found = get_openapi(title=app.title, version=app.version, routes=app.routes)
    schemas = found.setdefault("components", {}).setdefault("schemas", {})
    schemas["Error"] = _ERROR
    schemas["Answer"] = _answer(service)
    found["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for model in (models.score, models.feedback):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= schema.pop("$defs", {})
        schemas[model.__name__] = schema
    answer = {"$ref": "#/components/schemas/Answer"}
    batch = {
        "type": "object",
        "required": ["answers"],
        "properties": {"answers": {"type": "array", "items": answer}},
    }
    new = {"type": "object", "required": ["new"], "properties": {"new": {"type": "boolean"}}}
    row = dict(service.example)
    paths = found["paths"]
    paths["/v1/score"] = _post(
        "Score one row, or several in their order",
        "ScoreRequest",
        {"anyOf": [answer, batch]},
        {
            "one row": {"row": row, "reasons": True},
            "a batch": {"rows": [row]},
        },
        (400, 401, 403, 405, 408, 409, 413, 415, 421, 422, 429, 500, 503),
    )
    paths["/v1/feedback"] = _post(
        "Tell the label of a row that was scored or has landed",
        "FeedbackRequest",
        new,
        {"a label": dict(service.labels.example)},
        (400, 401, 403, 404, 405, 408, 409, 413, 415, 421, 422, 429, 500),
    )
    _tell_refusals(paths)
    return found


def _tell_refusals(paths: dict[str, Any]) -> None:
    by_path = {
        "/v1/model": (400, 401, 403, 405, 421, 429),
        "/metrics": (400, 401, 403, 405, 421, 429),
        "/healthz": (400, 405, 421),
        "/readyz": (400, 405, 421, 503),
    }
    for path, statuses in by_path.items():
        operation = paths[path]["get"]
        operation["responses"] |= _refusals(statuses)
        if path in ("/v1/model", "/metrics"):
            operation["security"] = [{"token": []}]
    paths["/metrics"]["get"]["responses"]["200"]["content"] = {"text/plain": {"schema": {"type": "string"}}}


def _post(
    summary: str, request: str, answer: dict[str, Any], examples: dict[str, Any], statuses: tuple[int, ...]
) -> dict[str, Any]:
    content = {
        "schema": {"$ref": f"#/components/schemas/{request}"},
        "examples": {name: {"value": value} for name, value in examples.items()},
    }
    return {
        "post": {
            "summary": summary,
            "security": [{"token": []}],
            "requestBody": {"required": True, "content": {"application/json": content}},
            "responses": {
                "200": {"description": "Answered", "content": {"application/json": {"schema": answer}}},
                **_refusals(statuses),
            },
        }
    }


def _refusals(statuses: tuple[int, ...]) -> dict[str, Any]:
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {str(status): {"description": _REFUSALS[status], "content": error} for status in statuses}


def _answer(service: Service) -> dict[str, Any]:
    text, number = {"type": "string"}, {"type": "number"}
    integer_key = service.contract.schema[service.key].is_integer()
    reason = {
        "type": "object",
        "required": ["feature", "value", "contribution", "words"],
        "properties": {
            "feature": text,
            "value": {"type": ["number", "null"]},
            "contribution": number,
            "words": text,
        },
    }
    return {
        "type": "object",
        "required": [
            service.key,
            "probability",
            "flagged",
            "threshold",
            "degraded",
            "model",
            "feature_versions",
        ],
        "properties": {
            service.key: {"type": "integer" if integer_key else "string"},
            "probability": {"type": "number", "minimum": 0, "maximum": 1},
            "flagged": {"type": "boolean"},
            "threshold": {"type": ["number", "null"]},
            "degraded": {"type": ["string", "null"]},
            "model": {"type": "object", "additionalProperties": text},
            "feature_versions": {"type": "object", "additionalProperties": text},
            "reasons": {"type": ["array", "null"], "items": reason},
        },
    }
