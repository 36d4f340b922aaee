"""The application in this process, without a home's partitions: readiness, rate, host, and what is declared."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pandera.polars as pa
import pytest

from assets_tests.serving.service_home import row
from my_platform.domains.fraud.service import services
from my_platform.errors import PlatformError
from my_platform.learning.registry_place import RegistryPlace
from my_platform.quality.contracts import Contract
from my_platform.serving.app import ScoringService
from my_platform.serving.champion import Champion
from my_platform.serving.gate import Bounds
from my_platform.serving.log import PredictionLog
from my_platform.serving.requests import RequestModels
from my_platform.serving.sqlite_store import SqliteStore
from my_platform.serving.state import OnlineState
from my_platform.serving.tokens import Tokens
from my_platform.settings import Settings

if TYPE_CHECKING:
    from starlette.testclient import TestClient

# Which HTTP client its test client prefers is Starlette's to say.
pytestmark = pytest.mark.filterwarnings("ignore:Using `httpx`")


@pytest.fixture
def client(tmp_path: Path) -> "Iterator[TestClient]":
    """A service without a champion, of which anyone may ask for two rows a second."""
    from starlette.testclient import TestClient

    (service,) = services(Settings())
    store = SqliteStore(tmp_path / "state.sqlite")
    log = PredictionLog(tmp_path / "log.sqlite")
    state = OnlineState(service.forms(), store)
    champion = Champion(RegistryPlace(tmp_path / "registry"), service.use, list(state.features), {})
    scoring = ScoringService(
        service, state, log, champion, Tokens([], 2.0), Bounds(10_000, 5.0), most_rows=3, whole=True
    )
    with TestClient(scoring.endpoint, base_url="http://localhost") as found:
        yield found
    log.close()
    store.close()


def test_without_a_champion_the_service_says_when_to_come_again(client: "TestClient") -> None:
    for reply in (client.get("/readyz"), client.post("/v1/score", json={"row": row(1)})):
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
        assert reply.json()["error"]["code"] == "not_ready"
    assert client.get("/healthz").status_code == 200
    assert client.get("/v1/model").json()["serving"] is None


def test_a_token_that_asks_too_often_waits(client: "TestClient") -> None:
    statuses = [client.post("/v1/score", json={}).status_code for _ in range(4)]

    assert statuses == [422, 422, 429, 429]
    assert int(client.post("/v1/score", json={}).headers["retry-after"]) >= 1


def test_without_tokens_another_host_is_refused(client: "TestClient") -> None:
    reply = client.get("/healthz", headers={"host": "attacker.example:8000"})

    assert reply.status_code == 421


def test_every_example_of_the_interface_is_taken(client: "TestClient") -> None:
    (service,) = services(Settings())
    models = RequestModels(service, most_rows=3)
    paths = client.get("/openapi.json").json()["paths"]
    bodies = {
        path: paths[path]["post"]["requestBody"]["content"]["application/json"]["examples"]
        for path in ("/v1/score", "/v1/feedback")
    }

    for example in bodies["/v1/score"].values():
        assert models.score.model_validate_json(_json(example["value"]))
    for example in bodies["/v1/feedback"].values():
        assert models.feedback.model_validate_json(_json(example["value"]))


def test_what_the_log_has_of_a_row_is_that_row() -> None:
    (service,) = services(Settings())
    models = RequestModels(service, most_rows=3)
    sent = row(7, TX_DATETIME="2025-01-31T02:30:00+02:30", TX_AMOUNT=0.1)

    ((read,), _, _) = models.rows(_json({"row": sent}), now_s=4e9)

    assert models.row_of(read.sent) == read.values
    assert '"TX_DATETIME":"2025-01-31T00:00:00"' in read.sent


def test_a_rule_that_looks_at_more_than_a_row_is_refused_when_the_service_is_made() -> None:
    class Odd(pa.DataFrameModel):
        TRANSACTION_ID: int = pa.Field(unique=True)
        TX_DATETIME: int = pa.Field(isin=[1, 2])

    (service,) = services(Settings())
    odd = dataclasses.replace(service, contract=Contract(Odd, sort_by=("TRANSACTION_ID",)))

    with pytest.raises(PlatformError, match=r"Odd, column TX_DATETIME: the rule isin"):
        RequestModels(odd, most_rows=3)


def _json(value: object) -> bytes:
    return json.dumps(value).encode()
