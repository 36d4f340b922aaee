"""Cases: flagged rows by entity, what people decide of them, and what that does to labels and later answers."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from assets_tests import homes
from assets_tests.serving.service_home import (
    READ_TOKEN,
    Running,
    copied,
    promote_copy,
    row,
    serving,
)

NEXT_DAY = f"{homes.day(31)}T06:00:00"


@pytest.fixture(scope="module")
def service(home: Path) -> Iterator[Running]:
    # Whatever is scored is flagged.
    promote_copy(home, threshold=0.0)
    with serving(home) as running:
        yield running


@pytest.fixture(scope="module")
def client(service: Running) -> httpx.Client:
    return service.client()


def score(client: httpx.Client, number: int, card: int, **given: Any) -> Any:
    reply = client.post("/v1/score", json={"row": row(number, CUSTOMER_ID=card, **given)})
    assert reply.status_code == 200, reply.text
    return reply.json()


def decide(client: httpx.Client, case: str, outcome: str, status: int = 200, **given: Any) -> Any:
    reply = client.post(f"/v1/cases/{case}/outcome", json={"outcome": outcome, **given})
    assert reply.status_code == status, reply.text
    return reply.json()


def shown(client: httpx.Client, case: str) -> Any:
    reply = client.get(f"/v1/cases/{case}")
    assert reply.status_code == 200, reply.text
    return reply.json()


def terminal_frauds(client: httpx.Client, service: Running, number: int, terminal: int) -> int:
    """Known labels of a terminal, as the features of a later row at it count them."""
    name = "TERMINAL_ID_NB_TX_30DAY_WINDOW"
    later = f"{homes.day(31)}T12:{number % 60:02}:00"
    score(client, number, 58, TERMINAL_ID=terminal, TX_DATETIME=later)
    names = client.get("/v1/model").json()["serving"]["features"]
    ((value,),) = service.log(
        f"select json_extract(features, '$[{names.index(name)}]') from predictions where key = '{10_000_000 + number}'"
    )
    assert isinstance(value, int)
    return value


def test_open_cases_come_first_by_their_highest_probability_and_in_pages(client: httpx.Client) -> None:
    for number, card in ((100, 1), (101, 2), (102, 3), (103, 1)):
        score(client, number, card)
    decide(client, "2-0", "dismissed", note="known to travel")

    found = client.get("/v1/cases", params={"limit": 200}).json()

    states = [case["state"] for case in found["cases"]]
    chances = [case["highest_probability"] for case in found["cases"] if case["state"] == "open"]
    assert chances == sorted(chances, reverse=True)
    assert states == sorted(states, key=lambda state: state != "open")
    assert next(case for case in found["cases"] if case["id"] == "1-0")["rows"] == 2
    assert (found["open"], found["total"]) == (states.count("open"), len(states))
    pages = [client.get("/v1/cases", params={"limit": 1, "offset": n}).json() for n in range(len(states))]
    assert [page["cases"][0] for page in pages] == found["cases"]
    assert [page["next"] for page in pages] == [*range(1, len(states)), None]


def test_a_case_shows_its_rows_with_reasons_in_words(client: httpx.Client) -> None:
    score(client, 110, 4, TX_AMOUNT=77.5)

    found = shown(client, "4-0")

    (flagged,) = found["flagged"]
    assert (found["CUSTOMER_ID"], found["state"], found["blocked"], found["outcomes"]) == (
        4,
        "open",
        False,
        [],
    )
    assert flagged["row"]["TX_AMOUNT"] == 77.5
    assert len(flagged["reasons"]) == 5
    assert all("speaks" in reason["words"] for reason in flagged["reasons"])


def test_a_confirmed_card_is_blocked_and_its_rows_are_labels_until_that_is_taken_back(
    client: httpx.Client, service: Running
) -> None:
    before = terminal_frauds(client, service, 200, 7)
    assert score(client, 120, 5, TERMINAL_ID=7)["blocked"] is False
    score(client, 121, 5, TERMINAL_ID=7)

    told = decide(client, "5-0", "confirmed", rows=[10_000_120], note="stolen", at=NEXT_DAY)

    assert told == {"new": True, "id": "5-0", "state": "confirmed"}
    assert score(client, 122, 5)["blocked"] is True
    assert service.log("select flagged from predictions where key = '10000122'") == [(1,)]
    assert terminal_frauds(client, service, 201, 7) == before + 1
    case = shown(client, "5-0")
    labels = {each["row"]["TRANSACTION_ID"]: each["labels"] for each in case["flagged"]}
    assert labels[10_000_120] == [{"REPORTED_AT": NEXT_DAY, "IS_FRAUD": True}]
    assert (labels[10_000_121], case["rows"], case["outcomes"][0]["note"]) == ([], 3, "stolen")
    label = {"TRANSACTION_ID": 10_000_120, "REPORTED_AT": f"{homes.day(31)}T07:00:00", "IS_FRAUD": True}
    assert client.post("/v1/feedback", json=label).json() == {"new": False}
    assert client.post("/v1/feedback", json={**label, "IS_FRAUD": False}).status_code == 409

    assert decide(client, "5-0", "reopened", note="a mistake")["state"] == "open"
    assert score(client, 123, 5)["blocked"] is False
    assert terminal_frauds(client, service, 202, 7) == before
    assert shown(client, "5-0")["flagged"][-1]["labels"] == []


def test_the_same_outcome_again_is_one_and_another_one_conflicts(
    client: httpx.Client, service: Running
) -> None:
    score(client, 130, 6)
    assert decide(client, "6-0", "dismissed")["new"] is True

    assert decide(client, "6-0", "dismissed") == {"new": False, "id": "6-0", "state": "dismissed"}
    error = decide(client, "6-0", "confirmed", status=409)["error"]
    assert "dismissed" in error["message"]
    assert "`reopened`" in error["message"]
    assert decide(client, "6-0", "reopened")["new"] is True
    assert decide(client, "6-0", "reopened")["new"] is False
    assert decide(client, "6-0", "confirmed", at=NEXT_DAY)["state"] == "confirmed"
    assert service.log("select count(*) from outcomes where entity = '6'") == [(3,)]


def test_rows_that_are_flagged_after_a_dismissal_make_the_next_case(client: httpx.Client) -> None:
    score(client, 140, 8)
    decide(client, "8-0", "dismissed")
    score(client, 141, 8)

    assert (shown(client, "8-0")["state"], shown(client, "8-0")["rows"]) == ("dismissed", 1)
    assert (shown(client, "8-1")["state"], shown(client, "8-1")["rows"]) == ("open", 1)
    decide(client, "8-0", "reopened")
    decide(client, "8-0", "dismissed", note="again")
    decide(client, "8-1", "dismissed")
    score(client, 142, 8)
    listed = client.get("/v1/cases", params={"limit": 200}).json()["cases"]
    of_card = {case["id"]: (case["state"], case["rows"]) for case in listed if case["CUSTOMER_ID"] == 8}
    assert of_card == {"8-0": ("dismissed", 1), "8-1": ("dismissed", 1), "8-2": ("open", 1)}


def test_only_scored_rows_of_the_card_are_confirmed(client: httpx.Client) -> None:
    score(client, 150, 9)
    score(client, 151, 10)

    for rows in ([10_000_151], [99], []):
        error = decide(client, "9-0", "confirmed", status=422, rows=rows)["error"]
        assert error["problems"][0]["field"].startswith("rows")
    assert decide(client, "9-0", "dismissed", status=422, rows=[10_000_150])["error"]["code"] == "invalid"
    assert shown(client, "9-0")["state"] == "open"


def test_a_row_that_is_known_as_genuine_is_not_confirmed(client: httpx.Client) -> None:
    score(client, 160, 11)
    label = {"TRANSACTION_ID": 10_000_160, "REPORTED_AT": f"{homes.day(31)}T01:00:00", "IS_FRAUD": False}
    assert client.post("/v1/feedback", json=label).json() == {"new": True}

    assert "another label" in decide(client, "11-0", "confirmed", status=409)["error"]["message"]
    assert (shown(client, "11-0")["state"], shown(client, "11-0")["blocked"]) == ("open", False)


@pytest.mark.parametrize(
    "case", ["", "5", "5-", "-0", "5-9", "05-0", "5-00", "9" * 30 + "-0", "5_0-0", "x-0", "%00-0"]
)
def test_what_is_no_case_is_not_found(client: httpx.Client, case: str) -> None:
    assert client.post(f"/v1/cases/{case}/outcome", json={"outcome": "dismissed"}).status_code == 404
    if case:
        assert client.get(f"/v1/cases/{case}").status_code == 404


def test_cases_need_their_own_scope(service: Running) -> None:
    client = service.client(READ_TOKEN)

    assert client.get("/v1/cases").status_code == 403
    assert client.post("/v1/cases/1-0/outcome", json={"outcome": "dismissed"}).status_code == 403


def test_what_is_blocked_and_what_was_taken_back_outlive_a_restart(home: Path, tmp_path: Path) -> None:
    own = copied(home, tmp_path)
    with serving(own) as running:
        client = running.client()
        before = terminal_frauds(client, running, 300, 11)
        for number, card in ((301, 20), (302, 21)):
            score(client, number, card, TERMINAL_ID=11)
            decide(client, f"{card}-0", "confirmed", at=NEXT_DAY)
        decide(client, "21-0", "reopened")
        running.kill()
    folder = own / "serving" / "fraud"
    for file in folder.glob("state.sqlite*"):
        file.unlink()
    with closing(sqlite3.connect(folder / "log.sqlite")) as log, log:
        # As if it had been killed between the outcome and its label.
        assert log.execute("delete from feedback where key = '10000301'").rowcount == 1
    with serving(own) as running:
        client = running.client()

        assert (score(client, 303, 20)["blocked"], score(client, 304, 21)["blocked"]) == (True, False)
        assert terminal_frauds(client, running, 305, 11) == before + 1
