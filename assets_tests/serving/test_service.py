"""The scoring service as a real process on a small home: answers, swaps, crashes."""

import json
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import lightgbm
import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from typer.testing import CliRunner

from assets_tests import homes
from assets_tests.serving.attacks import ATTACKS, Attack
from assets_tests.serving.service_home import (
    ALL_TOKEN,
    FEEDBACK_TOKEN,
    READ_TOKEN,
    SCORE_TOKEN,
    Running,
    copied,
    promote_copy,
    row,
    serving,
    until,
)
from my_platform.cli import app
from my_platform.errors import PlatformError
from my_platform.learning.bundle import read_bundle
from my_platform.learning.ledger import PromotionLedger
from my_platform.learning.threshold_ledger import ThresholdLedger
from my_platform.learning.thresholds import ByBundle, ByChecks, ByScore
from my_platform.serving.model import load_model
from my_platform.serving.tokens import read_tokens

PROMISED = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def service(home: Path) -> Iterator[Running]:
    with serving(home, serve_body_s=1) as running:
        yield running


@pytest.fixture(scope="module")
def client(service: Running) -> httpx.Client:
    return service.client()


def score(client: httpx.Client, sent: dict[str, Any], **more: Any) -> Any:
    reply = client.post("/v1/score", json={"row": sent, **more})
    assert reply.status_code == 200, reply.text
    return reply.json()


def bundle_of(client: httpx.Client) -> str:
    found: str = client.get("/v1/model").json()["serving"]["model"]["bundle"]
    return found


def test_an_answer_says_probability_decision_model_and_versions(client: httpx.Client) -> None:
    answer = score(client, row(1))

    assert 0 <= answer["probability"] <= 1
    assert answer["flagged"] == (answer["probability"] >= answer["threshold"] == 0.02)
    assert (answer["TRANSACTION_ID"], answer["degraded"]) == (10_000_001, None)
    assert answer["model"]["bundle"] == bundle_of(client)
    assert set(answer["feature_versions"]) == {"customer_spending", "usual_spending", "terminal_risk"}
    assert "reasons" not in answer


def test_reasons_name_the_strongest_features_in_words(client: httpx.Client) -> None:
    reasons = score(client, row(2), reasons=True)["reasons"]

    assert len(reasons) == 5
    sizes = [abs(reason["contribution"]) for reason in reasons]
    assert sizes == sorted(sizes, reverse=True)
    assert all("speaks" in reason["words"] for reason in reasons)


def test_rows_of_a_batch_are_answered_in_order_each_with_those_before_it(
    client: httpx.Client, service: Running
) -> None:
    batch = [row(number, CUSTOMER_ID=59) for number in (30, 31, 32)]

    answers = client.post("/v1/score", json={"rows": batch}).json()["answers"]

    assert [answer["TRANSACTION_ID"] for answer in answers] == [10_000_030, 10_000_031, 10_000_032]
    names = client.get("/v1/model").json()["serving"]["features"]
    at = names.index("CUSTOMER_ID_NB_TX_1DAY_WINDOW")
    logged = service.log(
        "select features from predictions where key in ('10000030', '10000031', '10000032') order by key"
    )
    counts = [json.loads(features)[at] for (features,) in logged]
    assert counts == [counts[0], counts[0] + 1, counts[0] + 2]


def test_the_same_row_again_gets_the_same_answer_and_counts_once(
    client: httpx.Client, service: Running
) -> None:
    first = score(client, row(40))

    assert score(client, row(40)) == first
    again = client.post("/v1/score", json={"rows": [row(40), row(40)]}).json()["answers"]
    assert again == [first, first]
    assert service.log("select count(*) from predictions where key = '10000040'") == [(1,)]


def test_another_body_under_a_known_id_is_a_conflict(client: httpx.Client) -> None:
    score(client, row(50))

    for other in (row(50, TX_AMOUNT=7.0), row(50, CUSTOMER_ID=1)):
        reply = client.post("/v1/score", json={"row": other})
        assert (reply.status_code, reply.json()["error"]["code"]) == (409, "conflict")
    both = client.post("/v1/score", json={"rows": [row(51), row(51, TX_AMOUNT=7.0)]})
    assert both.status_code == 409


def test_a_row_that_landed_is_known_by_its_partition(client: httpx.Client) -> None:
    reply = client.post("/v1/score", json={"row": row(52, TRANSACTION_ID=5)})

    assert reply.status_code == 409


def test_a_label_is_taken_in_once(client: httpx.Client, service: Running) -> None:
    score(client, row(60))
    label = {"TRANSACTION_ID": 10_000_060, "REPORTED_AT": f"{homes.day(31)}T00:00:00Z", "IS_FRAUD": True}

    assert client.post("/v1/feedback", json=label).json() == {"new": True}
    assert client.post("/v1/feedback", json=label).json() == {"new": False}
    assert client.post("/v1/feedback", json={**label, "IS_FRAUD": False}).status_code == 409
    assert client.post("/v1/feedback", json={**label, "TRANSACTION_ID": 1 << 60}).status_code == 404
    assert service.log("select key, label from feedback where key = '10000060'") == [
        ("10000060", f'{{"REPORTED_AT":"{homes.day(31)}T00:00:00","IS_FRAUD":true}}')
    ]


def test_a_token_does_what_its_scopes_say(service: Running) -> None:
    till, desk, watch = (service.client(token) for token in (SCORE_TOKEN, FEEDBACK_TOKEN, READ_TOKEN))

    assert score(till, row(70))["TRANSACTION_ID"] == 10_000_070
    assert till.post("/v1/feedback", json={}).status_code == 403
    assert till.get("/v1/model").status_code == 403
    assert desk.post("/v1/score", json={}).status_code == 403
    assert watch.get("/metrics").status_code == 200
    with httpx.Client(base_url=service.url) as anyone:
        assert anyone.get("/v1/model").status_code == 401
        assert anyone.get("/readyz").json() == {"ready": True}


def test_a_new_champion_is_taken_up_without_dropping_a_request(
    client: httpx.Client, home: Path, service: Running
) -> None:
    before = bundle_of(client)
    statuses: list[int] = []
    bundles: set[str] = set()
    ended = threading.Event()

    def load(first: int) -> None:
        with httpx.Client(base_url=service.url, headers=client.headers, timeout=30) as own:
            number = first
            while not ended.is_set():
                reply = own.post("/v1/score", json={"row": row(number)})
                statuses.append(reply.status_code)
                bundles.add(reply.json()["model"]["bundle"])
                number += 1

    workers = [threading.Thread(target=load, args=(10_000 * (worker + 1),)) for worker in range(3)]
    for worker in workers:
        worker.start()
    until(lambda: before in bundles)
    digest = promote_copy(home, threshold=0.03)
    until(lambda: bundle_of(client) == digest)
    until(lambda: digest in bundles)
    ended.set()
    for worker in workers:
        worker.join()

    assert set(statuses) == {200}
    assert bundles == {before, digest}


def test_a_champion_that_fails_its_self_test_is_refused_and_the_old_one_goes_on(
    client: httpx.Client, home: Path
) -> None:
    before = bundle_of(client)
    trees = (home / "registry" / "bundles" / before / "model.txt").read_text()
    other = lightgbm.Booster(model_str=trees).model_to_string(num_iteration=3)

    digest = promote_copy(home, threshold=0.04, files={"model.txt": other.encode()})

    until(lambda: client.get("/v1/model").json()["refused"] is not None)
    told = client.get("/v1/model").json()
    assert (told["refused"]["bundle"], told["serving"]["model"]["bundle"]) == (digest, before)
    assert score(client, row(80))["model"]["bundle"] == before
    assert "my_platform_champion_refused 1.0" in client.get("/metrics").text
    promote_copy(home, threshold=0.05)
    until(lambda: client.get("/v1/model").json()["refused"] is None)


def test_a_damaged_bundle_and_other_code_are_refused(client: httpx.Client, home: Path) -> None:
    before = bundle_of(client)
    code = {"customer_spending": "0123456789abcdef"}

    digest = promote_copy(home, threshold=0.06, code=code)
    until(lambda: (client.get("/v1/model").json()["refused"] or {}).get("bundle") == digest)
    assert "customer_spending" in client.get("/v1/model").json()["refused"]["why"]
    damaged = promote_copy(home, threshold=0.07, files={"model.onnx": b"nothing of the kind"})
    until(lambda: (client.get("/v1/model").json()["refused"] or {}).get("bundle") == damaged)

    assert bundle_of(client) == before
    promote_copy(home, threshold=0.08)
    until(lambda: client.get("/v1/model").json()["refused"] is None)


def test_a_threshold_that_people_choose_is_followed_and_outlives_the_champion(
    client: httpx.Client, home: Path
) -> None:
    ledger = ThresholdLedger(home / "registry")

    def told() -> Any:
        return client.get("/v1/model").json()["serving"]

    ledger.choose("fraud", ByScore(0.0), who="ann", why="look at all")
    until(lambda: told()["threshold_policy"]["version"] == 1)
    answer = score(client, row(90))
    assert (answer["threshold"], answer["flagged"]) == (0.0, True)
    digest = promote_copy(home, threshold=0.5)
    until(lambda: told()["model"]["bundle"] == digest)
    assert (told()["threshold"], told()["threshold_policy"]["why"]) == (0.0, "look at all")
    ledger.choose("fraud", ByChecks(10), who="ann", why="few people")
    until(lambda: told()["threshold_policy"]["version"] == 2)
    policy = told()["threshold_policy"]
    assert (policy["by"], policy["checks_a_day"], bool(policy["note"])) == (
        "checks",
        10,
        told()["threshold"] == 0.5,
    )

    with open(ledger.path, "a") as file:
        file.write('{"use": "fraud", "policy": {"by": "chance"}}\n')
    until(lambda: "is no policy" in told()["threshold_policy"]["note"])
    assert (told()["threshold_policy"]["version"], score(client, row(90))["threshold"]) == (2, 0.0)
    ledger.choose("fraud", ByBundle(), who="ann", why="as before")
    until(lambda: told()["threshold"] == 0.5)


def test_reasons_of_a_model_without_trees_are_what_leaving_a_feature_out_changes(home: Path) -> None:
    champion = PromotionLedger(home / "registry" / "promotions.jsonl").standing("fraud").champion
    assert champion is not None
    about = read_bundle(home / "registry" / "bundles", champion.bundle).about
    model = load_model(home / "registry" / "bundles", champion.bundle, about["features"], None)
    features = [250.0, *(1.0 for _ in model.features[1:])]

    reasons = replace(model, trees=None).reasons(features, {"TX_AMOUNT": "amount"}, most=len(features))

    without = model.probabilities(np.array([features, [np.nan, *features[1:]]]))
    (of_amount,) = (reason for reason in reasons if reason.feature == "TX_AMOUNT")
    assert of_amount.contribution == pytest.approx(without[0] - without[1])
    assert of_amount.words.startswith("amount: 250, speaks ")


def test_requests_that_do_not_wait_for_each_other_are_answered_in_their_order(service: Running) -> None:
    bodies = [
        json.dumps({"row": row(6_000 + number, **({} if number % 3 else {"TX_AMOUNT": "x"}))}).encode()
        for number in range(300)
    ]
    place = urlsplit(service.url)
    with socket.create_connection((place.hostname, place.port or 0), timeout=30) as connection:
        connection.sendall(
            b"".join(
                b"POST /v1/score HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer %b\r\n"
                b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
                % (ALL_TOKEN.encode(), len(body), body)
                for body in bodies
            )
        )
        received = b""
        while received.count(b"HTTP/1.1 ") < 300 or not received.endswith(b"}"):
            part = connection.recv(65_536)
            assert part
            received += part

    replies = received.split(b"HTTP/1.1 ")[1:]
    assert [int(reply[:3]) for reply in replies] == [200 if number % 3 else 422 for number in range(300)]
    ids = [json.loads(reply.partition(b"\r\n\r\n")[2]).get("TRANSACTION_ID") for reply in replies]
    assert ids == [10_006_000 + number if number % 3 else None for number in range(300)]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_gets_the_refusal_that_is_documented_for_it(
    attack: Attack, service: Running, client: httpx.Client
) -> None:
    score(client, row(5_000))
    place = urlsplit(service.url)
    with socket.create_connection((place.hostname, place.port or 0), timeout=20) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(attack.sent)
        reply = connection.recv(65_536).decode()

    assert int(reply.split()[1]) == attack.status, reply
    assert "Traceback" not in reply
    assert client.get("/healthz").json() == {"alive": True}


def test_no_request_of_its_own_interface_breaks_the_service(service: Running) -> None:
    fuzz(service, examples=15)


@pytest.mark.slow
def test_no_request_of_its_own_interface_breaks_the_service_at_length(service: Running) -> None:
    fuzz(service, examples=1_000)


def fuzz(service: Running, examples: int) -> None:
    """Send what the interface allows, and what it does not, and hold every reply against it."""
    headers = {"Authorization": f"Bearer {ALL_TOKEN}"}
    schema = schemathesis.openapi.from_url(f"{service.url}/openapi.json")
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in schemathesis.GenerationMode:

            @settings(
                max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck)
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def send(case: schemathesis.Case) -> None:
                reply = case.call(headers=headers, timeout=20)
                case.validate_response(reply, checks=PROMISED)

            # Where nothing is sent, nothing can be wrong.
            with suppress(Unsatisfiable):
                send()


def test_a_kill_loses_nothing_acknowledged_and_a_lost_state_is_made_again(home: Path, tmp_path: Path) -> None:
    own = copied(home, tmp_path)
    promote_copy(own, threshold=0.09)
    label = {"TRANSACTION_ID": 10_000_000, "REPORTED_AT": f"{homes.day(31)}T00:00:00", "IS_FRAUD": True}
    acknowledged: list[int] = []

    def load(running: Running, first: int) -> None:
        with httpx.Client(base_url=running.url, headers=running.client().headers, timeout=30) as client:
            number = first
            with suppress(httpx.TransportError):
                while client.post("/v1/score", json={"row": row(number)}).status_code == 200:
                    acknowledged.append(10_000_000 + number)
                    number += 1

    with serving(own) as running:
        workers = [threading.Thread(target=load, args=(running, 10_000 * worker)) for worker in range(4)]
        for worker in workers:
            worker.start()
        until(lambda: len(acknowledged) > 200)
        running.kill()
        for worker in workers:
            worker.join()
    with serving(own, serve_shadow="previous") as running:
        client = running.client()
        assert score(client, row(0))["TRANSACTION_ID"] == 10_000_000
        own_bundle = score(client, row(9_999))["model"]["bundle"]
        shadowed = (
            "select shadow_bundle, shadow_probability - probability from predictions where key = '10009999'"
        )
        ((shadow, difference),) = running.log(shadowed)
        assert (shadow == client.get("/v1/model").json()["shadow"] != own_bundle, difference) == (True, 0.0)
        assert client.post("/v1/feedback", json=label).json() == {"new": True}
        logged = {int(key) for (key,) in running.log("select key from predictions")}
        assert running.end() == 0
    state = own / "serving" / "fraud" / "state.sqlite"
    events = events_of(state)
    arrived = {key for name, _, _, key, _ in events if name == "customer_spending"}

    assert set(acknowledged) <= logged
    assert {key for key in arrived if key >= 10_000_000} == logged

    health = json.loads((own / "serving" / "health.json").read_text())
    assert (health["requests"], health["errors"]) == (2, 0)
    for file in state.parent.glob("state.sqlite*"):
        file.unlink()
    with serving(own) as running:
        assert running.end() == 0
    assert events_of(state) == events


def events_of(state: Path) -> set[tuple[Any, ...]]:
    with sqlite3.connect(state) as database:
        return set(
            database.execute("select feature_set, entity, second, key, content from events").fetchall()
        )


def test_without_tokens_only_loopback_is_served(home: Path) -> None:
    with pytest.raises(PlatformError, match="MY_PLATFORM_SERVE_TOKENS"):
        CliRunner().invoke(app, ["--home", str(home), "serve", "--host", "0.0.0.0"], catch_exceptions=False)


def test_tokens_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    for content in (
        "",
        "[]",
        '[{"name": "a", "scopes": ["all"], "token": "x"}]',
        '[{"name": "a", "scopes": ["read"]}]',
    ):
        path.write_text(content)
        with pytest.raises(PlatformError, match="tokens file"):
            read_tokens(path, None)
