"""Several processes on one port: what holds of one process holds of them, and any of them may be killed."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from assets_tests.serving.attacks import ATTACKS
from assets_tests.serving.load import asked
from assets_tests.serving.service_home import Running, copied, promote_copy, row, serving, until

COUNTED = "CUSTOMER_ID_NB_TX_1DAY_WINDOW"


@pytest.fixture(scope="module")
def running(home: Path) -> Iterator[Running]:
    with serving(home, serve_workers=2, serve_body_s=1) as service:
        until(lambda: len(fronts(service)) == 2)
        yield service


def fronts(running: Running) -> list[int]:
    """The processes that speak HTTP for a service."""
    words = ["ps", "-o", "pid=,args=", "--ppid", str(running.process.pid)]
    told = subprocess.run(words, capture_output=True, text=True, check=False).stdout
    return [int(line.split()[0]) for line in told.splitlines() if "serving.front" in line]


def scored(running: Running, number: int, card: int) -> dict[str, object]:
    """The answer to a row that comes by a connection of its own, so by any front; asked again until it is answered."""
    body = json.dumps({"row": row(number, CUSTOMER_ID=card)}).encode()
    place = urlsplit(running.url)
    for _ in range(50):
        with (
            suppress(OSError),
            socket.create_connection((place.hostname, place.port or 0), timeout=20) as own,
        ):
            status, answer = asked(own, "/v1/score", body)
            assert status == 200, answer
            found: dict[str, object] = json.loads(answer)
            return found
    raise AssertionError("it was not answered")


def in_parallel(running: Running, numbers: range, card: int) -> list[dict[str, object]]:
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda number: scored(running, number, card), numbers))


def counts(running: Running, numbers: range) -> list[int]:
    """How many rows of its card each row had seen, in the order of the rows' own times."""
    names = running.client().get("/v1/model").json()["serving"]["features"]
    keys = ", ".join(f"'{10_000_000 + number}'" for number in numbers)
    found = running.log(f"select features from predictions where key in ({keys}) order by rowid")
    return [json.loads(features)[names.index(COUNTED)] for (features,) in found]


def test_a_row_counts_for_the_next_whichever_process_they_come_by(running: Running) -> None:
    for number in range(20):
        scored(running, number, 7)

    seen = counts(running, range(20))
    assert seen == list(range(seen[0], seen[0] + 20))


def test_a_row_that_comes_by_several_at_once_counts_once(running: Running) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: scored(running, 100, 8), range(24)))

    assert answers == [answers[0]] * 24
    assert running.log("select count(*) from predictions where key = '10000100'") == [(1,)]


def test_attacks_get_the_refusals_that_one_process_gives(running: Running) -> None:
    # An attack repeats the id of this row.
    running.client().post("/v1/score", json={"row": row(5_000)}).raise_for_status()
    place = urlsplit(running.url)
    got = {}
    for attack in ATTACKS:
        with socket.create_connection((place.hostname, place.port or 0), timeout=30) as connection:
            connection.sendall(attack.sent)
            with suppress(ConnectionError):
                got[attack.name] = int(connection.recv(65_536).split()[1])

    assert got == {attack.name: attack.status for attack in ATTACKS}


def test_pipelined_requests_with_garbage_behind_them_end_their_connection_and_no_front(
    running: Running,
) -> None:
    before, place = fronts(running), urlsplit(running.url)
    attack = next(each for each in ATTACKS if each.name == "a text where a number belongs")
    for _ in range(20):
        with socket.create_connection((place.hostname, place.port or 0), timeout=30) as connection:
            connection.sendall(attack.sent * 2 + b"\x00garbage\r\n\r\n")
            with suppress(ConnectionError):
                while connection.recv(65_536):
                    pass

    scored(running, 5_001, 7)
    assert fronts(running) == before


def test_replies_of_all_are_counted_together_also_those_that_a_front_gives(running: Running) -> None:
    client = running.client(token=None)
    before = told(running)
    for _ in range(10):
        assert httpx.post(f"{running.url}/v1/score", json={}).status_code == 401
    assert client.get("/healthz").json() == {"alive": True}

    until(lambda: told(running) == before + 10)


def told(running: Running) -> float:
    text = running.client().get("/metrics").text
    name = 'my_platform_replies_total{operation="score",status="401"} '
    return sum(float(line.removeprefix(name)) for line in text.splitlines() if line.startswith(name))


def test_a_front_that_is_killed_is_replaced_and_nothing_acknowledged_is_lost(running: Running) -> None:
    first, second = fronts(running)
    scored(running, 199, 9)
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(in_parallel, running, range(200, 500), 9)
        until(lambda: running.log("select count(*) from predictions where key = '10000300'") == [(1,)])
        os.kill(first, signal.SIGKILL)
        answers = load.result()

    assert len(answers) == 300
    scored(running, 500, 9)
    before, after = counts(running, range(199, 200)) + counts(running, range(500, 501))
    assert after == before + 301
    until(lambda: len(fronts(running)) == 2 and first not in fronts(running))
    assert second in fronts(running)


def test_another_champion_answers_by_whichever_process_it_is_asked(running: Running, home: Path) -> None:
    digest = promote_copy(home, threshold=0.04)
    until(lambda: running.client().get("/v1/model").json()["serving"]["model"]["bundle"] == digest)

    answers = in_parallel(running, range(600, 616), 10)

    assert {answer["threshold"] for answer in answers} == {0.04}


def test_where_the_process_that_scores_is_killed_its_fronts_end_and_the_next_knows_all(
    made_home: Path, tmp_path: Path
) -> None:
    home = copied(made_home, tmp_path)
    with serving(home, serve_workers=2) as running:
        sent = in_parallel(running, range(700, 740), 11)
        alone = fronts(running)
        os.kill(running.process.pid, signal.SIGKILL)
        running.process.communicate()
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in alone))
    with serving(home, serve_workers=2) as again:
        assert in_parallel(again, range(700, 740), 11) == sent
        assert again.end() == 0
