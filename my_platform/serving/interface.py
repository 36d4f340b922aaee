"""The service's own OpenAPI: its requests with examples, its answers, and every refusal."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from my_platform.serving.declaration import Service
from my_platform.serving.gate import CASES, OUTCOME
from my_platform.serving.page_paths import DECISIONS
from my_platform.serving.requests import RequestModels

_REFUSALS = {
    400: "a header was sent twice, or the connection ended within the body",
    401: "no token of this service was sent",
    403: "the token has not the scope",
    404: "nothing is there, or no such row was scored or landed, or there is no such case",
    405: "another method",
    408: "the body did not come in time",
    409: "the id came before with another body, or another outcome of the case stands",
    413: "too large",
    415: "the body is no JSON",
    421: "without tokens only loopback may ask",
    422: "the body is not what is asked for; `problems` names the fields",
    429: "the token asks too often; wait as `Retry-After` says",
    500: "the service failed, and stored nothing",
    503: "no model serves yet, or the online state cannot be reached; wait as `Retry-After` says",
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

_COUNTS = {"type": "array", "items": {"type": "integer"}}
_DECISIONS = {
    "type": "object",
    "required": ["decisions", "rows", "flagged", "latency_us", "scores", "scores_before", "drift"],
    "properties": {
        "decisions": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["row", "scored_at", "probability", "threshold", "flagged", "latency_us"],
                "properties": {"row": {"type": "object"}, "probability": {"type": "number"}},
            },
        },
        "rows": {"type": "integer"},
        "flagged": {"type": "integer"},
        "latency_us": {"type": "object", "additionalProperties": {"type": ["integer", "null"]}},
        "scores": _COUNTS,
        "scores_before": _COUNTS,
        "drift": {"type": ["number", "null"]},
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
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    for model in (models.score, models.feedback, *([models.outcome] if service.cases else [])):
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
        (400, 401, 403, 404, 405, 408, 409, 413, 415, 421, 422, 429, 500, 503),
    )
    if service.cases:
        schemas["Case"] = _case(service, service.cases.entity)
        _tell_cases(paths, service, service.cases.entity)
    _tell_refusals(paths)
    return found


def _tell_cases(paths: dict[str, Any], service: Service, entity: str) -> None:
    case = {"$ref": "#/components/schemas/Case"}
    page = {
        "type": "object",
        "required": ["cases", "open", "total", "next"],
        "properties": {
            "cases": {"type": "array", "items": case},
            "open": {"type": "integer"},
            "total": {"type": "integer"},
            "next": {"type": ["integer", "null"]},
        },
    }
    of_case = f"{CASES}/{{case}}"
    for path, schema in ((CASES, page), (of_case, case)):
        paths[path]["get"]["responses"]["200"]["content"] = {"application/json": {"schema": schema}}
    new = {
        "type": "object",
        "required": ["new", "id", "state"],
        "properties": {"new": {"type": "boolean"}, "id": {"type": "string"}, "state": {"type": "string"}},
    }
    outcome = _post(
        "Confirm or dismiss a case, or take that back",
        "OutcomeRequest",
        new,
        {
            "confirmed": {
                "outcome": "confirmed",
                "rows": [service.example[service.key]],
                "note": "the holder does not know it",
            },
            "dismissed": {"outcome": "dismissed", "note": "the holder was travelling"},
            "reopened": {"outcome": "reopened"},
        },
        (400, 401, 403, 404, 405, 408, 409, 413, 415, 421, 422, 429, 500, 503),
    )
    name = {
        "name": "case",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "minLength": 1},
        "example": f"{service.example[entity]}-0",
    }
    outcome["post"]["parameters"] = paths[of_case]["get"]["parameters"] = [name]
    paths[f"{of_case}{OUTCOME}"] = outcome


def _tell_refusals(paths: dict[str, Any]) -> None:
    by_path = {
        "/v1/model": (400, 401, 403, 405, 421, 429),
        "/metrics": (400, 401, 403, 405, 421, 429),
        DECISIONS: (400, 401, 403, 405, 421, 422, 429),
        "/healthz": (400, 405, 421),
        "/readyz": (400, 405, 421, 503),
        CASES: (400, 401, 403, 405, 421, 422, 429),
        f"{CASES}/{{case}}": (400, 401, 403, 404, 405, 421, 422, 429),
    }
    for path, statuses in by_path.items():
        if path not in paths:
            continue
        operation = paths[path]["get"]
        operation["responses"] |= _refusals(statuses)
        if 401 in statuses:
            operation["security"] = [{"token": []}]
    paths[DECISIONS]["get"]["responses"]["200"]["content"] = {"application/json": {"schema": _DECISIONS}}
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


def _case(service: Service, entity: str) -> dict[str, Any]:
    text, count = {"type": "string"}, {"type": "integer"}
    told = {
        "id": text,
        entity: {"type": "integer" if service.contract.schema[entity].is_integer() else "string"},
        "state": {"enum": ["open", "confirmed", "dismissed"]},
        "rows": count,
        "highest_probability": {"type": "number"},
        "first_scored_at": text,
        "last_scored_at": text,
    }
    many = {"type": "array", "items": {"type": "object"}}
    shown = {"blocked": {"type": "boolean"}, "outcomes": many, "flagged": many}
    return {"type": "object", "required": list(told), "properties": {**told, **shown}}


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
            "blocked",
            "degraded",
            "model",
            "feature_versions",
        ],
        "properties": {
            service.key: {"type": "integer" if integer_key else "string"},
            "probability": {"type": "number", "minimum": 0, "maximum": 1},
            "flagged": {"type": "boolean"},
            "threshold": {"type": ["number", "null"]},
            "blocked": {"type": "boolean"},
            "degraded": {"type": ["string", "null"]},
            "model": {"type": "object", "additionalProperties": text},
            "feature_versions": {"type": "object", "additionalProperties": text},
            "reasons": {"type": ["array", "null"], "items": reason},
        },
    }
