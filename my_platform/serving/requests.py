"""What requests must look like: models made of the contracts, which read JSON and check it in one go."""

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal, NamedTuple

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic_core import to_json

from my_platform.errors import PlatformError
from my_platform.quality.contracts import Contract
from my_platform.serving.declaration import Service

MAX_INTEGER = 2**63 - 1
# Of a text in a row; a key that is longer than this is no key.
MOST_CHARACTERS = 1_000
# Clocks differ; a row from a farther future would make its entity forget its past.
MOST_AHEAD_S = 86_400
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_TICKS = {"ms": 10**3, "us": 10**6, "ns": 10**9}
_BOUNDS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "greater_than": (("gt", "min_value"),),
    "greater_than_or_equal_to": (("ge", "min_value"),),
    "less_than": (("lt", "max_value"),),
    "less_than_or_equal_to": (("le", "max_value"),),
    "in_range": (("ge", "min_value"), ("le", "max_value")),
}


class Problem(NamedTuple):
    """What is wrong with a request: the field, as a path with dots, and why."""

    field: str
    why: str


class Invalid(Exception):
    """A request whose body is not what is asked for."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(f"{field}: {why}" for field, why in problems))
        self.problems = problems


class Row(NamedTuple):
    """A row to score.

    Attributes:
        key: its id; `text` is the same as text.
        second: when it happened, seconds since 1970.
        values: its columns as the online features take them.
        sent: its columns as JSON, the same for the same row.
    """

    key: int | str
    text: str
    second: int
    values: dict[str, Any]
    sent: str


class Label(NamedTuple):
    """A label: the row's key, its own columns as the online features take them, and these as JSON."""

    key: int | str
    values: dict[str, Any]
    sent: str


class RequestModels:
    """The models of one service's requests.

    Args:
        service: what was declared.
        most_rows: rows of one batch.

    Raises:
        PlatformError: a contract has a column or a rule that cannot be checked row by row.
    """

    def __init__(self, service: Service, most_rows: int) -> None:
        self._key, self._time = service.key, service.time
        self._integer_key = service.contract.schema[service.key].is_integer()
        self._rows = _Columns(service.contract)
        self._labels = _Columns(service.labels.contract)
        row = _model("Row", service.contract, service.example)
        several: Any = Annotated[list[row], Field(min_length=1, max_length=most_rows)]  # type: ignore[valid-type]
        self.score: type[BaseModel] = create_model(
            "ScoreRequest",
            __config__=ConfigDict(
                extra="forbid",
                strict=True,
                json_schema_extra={"oneOf": [{"required": ["row"]}, {"required": ["rows"]}]},
            ),
            row=(row, Field(default_factory=lambda: None, description="the row to score")),
            rows=(
                several,
                Field(default_factory=lambda: None, description="or several, each with those before it"),
            ),
            reasons=(bool, Field(default=False, description="whether to tell what speaks for each answer")),
        )
        keys: Any = Annotated[
            list[int if self._integer_key else str], Field(min_length=1, max_length=most_rows)  # type: ignore[misc]
        ]
        decision: Any = Literal["confirmed", "dismissed", "reopened"]
        text: Any = Annotated[str, Field(max_length=MOST_CHARACTERS)]
        self.outcome: type[BaseModel] = create_model(
            "OutcomeRequest",
            __config__=ConfigDict(extra="forbid", strict=True),
            outcome=(
                decision,
                Field(
                    description="what the case turned out to be, or that the outcome which stands is taken back"
                ),
            ),
            rows=(
                keys | None,
                Field(default=None, description="the rows that are confirmed; default: all that are flagged"),
            ),
            note=(text, Field(default="", description="in words")),
            at=(
                datetime | None,
                Field(default=None, description="when the confirmed rows became known as such; default: now"),
            ),
        )
        self.feedback: type[BaseModel] = _model(
            "FeedbackRequest", service.labels.contract, service.labels.example
        )

    def outcome_of(self, body: bytes) -> BaseModel:
        """What a body says of a case; raises Invalid."""
        return _validated(self.outcome, body)

    def label_made(self, key: int | str, columns: Mapping[str, Any]) -> Label:
        """The label of a row with these columns of its own, times as datetimes."""
        values, sent = self._labels.read(columns, "")
        return Label(key, values, sent)

    def rows(self, body: bytes, now_s: float) -> tuple[list[Row], bool, bool]:
        """The rows of a body, whether it was a batch, and whether reasons are asked for; raises Invalid."""
        asked: Any = _validated(self.score, body)
        one, many = asked.row, asked.rows
        if (one is None) == (many is None):
            raise Invalid([Problem("row", "expected either `row` or `rows`")])
        models = [one] if many is None else many
        at = "row" if many is None else "rows"
        rows = []
        for number, model in enumerate(models):
            place = at if many is None else f"{at}.{number}"
            values, sent = self._rows.read(model.__dict__, place)
            second = values[self._time] // self._rows.ticks[self._time]
            if not 0 <= second <= now_s + MOST_AHEAD_S:
                raise Invalid(
                    [Problem(f"{place}.{self._time}", "expected a time from 1970 to a day ahead of now")]
                )
            key = values[self._key]
            rows.append(Row(key, str(key), second, values, sent))
        return rows, many is not None, asked.reasons

    def label(self, body: bytes, now_s: float) -> Label:
        """The label of a body; raises Invalid."""
        given = dict(_validated(self.feedback, body).__dict__)
        key = given.pop(self._key)
        values, sent = self._labels.read(given, "")
        for name, ticks in self._labels.ticks.items():
            if not 0 <= values[name] // ticks <= now_s + MOST_AHEAD_S:
                raise Invalid([Problem(name, "expected a time from 1970 to a day ahead of now")])
        return Label(key, values, sent)

    def key_of(self, text: str) -> int | str:
        """The id of a row from its text."""
        return int(text) if self._integer_key else text

    def row_of(self, sent: str) -> dict[str, Any]:
        """The columns of a row as the online features take them, from the JSON that the log has of it."""
        return self._rows.of_json(sent)

    def label_of(self, sent: str) -> dict[str, Any]:
        """The same of a label."""
        return self._labels.of_json(sent)


class _Columns:
    """Columns of a contract between their JSON form and the plain values of online rows."""

    def __init__(self, contract: Contract) -> None:
        schema = contract.schema
        self.ticks = {
            name: _TICKS[dtype.time_unit] for name, dtype in schema.items() if isinstance(dtype, pl.Datetime)
        }
        self._floats = [name for name, dtype in schema.items() if dtype.is_float()]

    def read(self, given: Mapping[str, Any], place: str) -> tuple[dict[str, Any], str]:
        """Plain values and JSON of validated columns; raises Invalid where a time has parts of a second."""
        values = dict(given)
        for name in self._floats:
            if name in values:
                values[name] = float(values[name]) + 0.0
        shown = dict(values)
        for name, ticks in self.ticks.items():
            if name in values:
                time: datetime = values[name]
                if time.tzinfo is not None:
                    try:
                        time = time.astimezone(UTC).replace(tzinfo=None)
                    except OverflowError:
                        raise Invalid(
                            [Problem(f"{place}.{name}".lstrip("."), "expected a time in UTC")]
                        ) from None
                if time.microsecond:
                    raise Invalid([Problem(f"{place}.{name}".lstrip("."), "expected whole seconds")])
                shown[name] = time
                values[name] = ticks * (
                    (time.toordinal() - _EPOCH_ORDINAL) * 86_400
                    + time.hour * 3600
                    + time.minute * 60
                    + time.second
                )
        return values, to_json(shown).decode()

    def of_json(self, sent: str) -> dict[str, Any]:
        """Plain values of what `read` wrote."""
        given = json.loads(sent)
        times = {name: datetime.fromisoformat(given[name]) for name in self.ticks if name in given}
        return self.read({**given, **times}, "")[0]


def _model(name: str, contract: Contract, example: Mapping[str, Any]) -> type[BaseModel]:
    fields: dict[str, Any] = {}
    for column, found in contract.model.to_schema().columns.items():
        limits: dict[str, Any] = {}
        for check in found.checks:
            for limit, statistic in _BOUNDS.get(check.name, ()):
                limits[limit] = check.statistics[statistic]
            # What is not finite is no number in JSON anyway.
            if check.name not in _BOUNDS and check.name != "finite":
                raise PlatformError(
                    f"{contract.model.__name__}, column {column}: the rule {check.name} cannot be checked for a single "
                    f"row; use one of {', '.join(sorted(_BOUNDS))}, or serve a contract without it"
                )
        kind = _kind(contract, column, found.dtype.type, limits)
        nullable = found.nullable
        fields[column] = (
            Annotated[kind, Field(description=found.description or "", **limits)]
            if not nullable
            else Annotated[kind | None, Field(description=found.description or "", **limits)],
            ...,
        )
    config = ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False, json_schema_extra={"examples": [dict(example)]}
    )
    made: type[BaseModel] = create_model(name, __config__=config, **fields)
    return made


def _kind(contract: Contract, column: str, dtype: pl.DataType, limits: dict[str, Any]) -> Any:
    if dtype.is_integer():
        limits.setdefault("ge", -MAX_INTEGER - 1)
        limits.setdefault("le", MAX_INTEGER)
        return int
    if dtype.is_float():
        return float
    if dtype == pl.String:
        limits["max_length"] = MOST_CHARACTERS
        return str
    if dtype == pl.Boolean:
        return bool
    if isinstance(dtype, pl.Datetime) and dtype.time_zone in (None, "UTC"):
        return datetime
    raise PlatformError(
        f"{contract.model.__name__}, column {column}: {dtype} cannot be sent as JSON; use integers, floats, texts, "
        "truth values or UTC datetimes"
    )


def _validated(model: type[BaseModel], body: bytes) -> BaseModel:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        raise Invalid(
            [Problem(".".join(map(str, each["loc"])) or "body", each["msg"]) for each in found[:10]]
        ) from None
