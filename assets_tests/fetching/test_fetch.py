"""What a database or an API says of a day lands as one file, again only if it says something else, or not at all."""

import re
from collections.abc import Iterator
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from assets_tests import postgres_server
from assets_tests.fetching import shops
from assets_tests.fetching.shops import ORDERS, Api, day, execute, fill, served
from assets_tests.homes import CHECKOUT, answer, start
from assets_tests.storage.s3_servers import free_port
from my_platform.errors import SourceError
from my_platform.fetching import database
from my_platform.fetching.declaration import DatabaseSource, Source, as_table
from my_platform.fetching.fetch import Fetched, fetch
from my_platform.operations.fetching import FETCH_SENSOR, fetch_sources
from my_platform.operations.session import opened
from my_platform.settings import Settings
from my_platform.storage.places import LandingFolder

DAYS = 4
TODAY = day(DAYS)
SOLE = DatabaseSource("orders", "URL", "", {"AT": pl.Datetime}, ("AT",), day(0))


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A SQLite database with four days of orders."""
    found = f"sqlite:///{tmp_path}/shop.db"
    monkeypatch.setenv(shops.URL_ENV, found)
    fill(found, DAYS)
    return found


@pytest.fixture
def landing(tmp_path: Path) -> LandingFolder:
    (tmp_path / "landing").mkdir()
    return LandingFolder(tmp_path / "landing")


@pytest.fixture
def api() -> Iterator[Api]:
    rows = [{"id": 5 - i, "at": f"{day(0)}T10:00:00+01:00", "note": None if i else "late"} for i in range(5)]
    with served(Api({str(day(0)): rows})) as found:
        yield found


def files(landing: LandingFolder) -> dict[str, tuple[bytes, int]]:
    """What lies in landing, with the time at which it was written."""
    return {
        str(path.relative_to(landing.root)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in Path(landing.root).rglob("*")
        if path.is_file()
    }


def ask(
    source: Source, landing: LandingFolder, today: date = TODAY, **more: Any
) -> tuple[Fetched, list[float]]:
    """A fetch, and what it would have waited."""
    waits: list[float] = []
    return fetch(source, landing, today=today, sleep=waits.append, **more), waits


def test_each_finished_day_of_a_database_lands_once(url: str, landing: LandingFolder) -> None:
    done, _ = ask(ORDERS, landing)
    before = files(landing)

    assert done.landed == {str(day(number)): 4 for number in range(DAYS)}
    assert sorted(before) == [f"orders/{day(number)}.parquet" for number in range(DAYS)]
    first = pl.read_parquet(Path(landing.root) / f"orders/{day(0)}.parquet")
    assert first.schema == shops.SCHEMA
    assert first.get_column("ORDER_ID").to_list() == [3, 2, 1, 0]
    again, _ = ask(ORDERS, landing)
    assert (again.landed, again.corrected) == ({}, {})
    assert again.unchanged == [str(day(number)) for number in range(DAYS - 3, DAYS)]
    assert files(landing) == before


def test_the_same_rows_give_the_same_bytes_in_whatever_order_they_come(url: str, tmp_path: Path) -> None:
    backwards = DatabaseSource(**{**vars(ORDERS), "query": f"{ORDERS.query} order by 1 desc"})
    found = []
    for name, source in (("a", ORDERS), ("b", backwards)):
        place = LandingFolder(tmp_path / name)
        ask(source, place)
        found.append({path: data for path, (data, _) in files(place).items()})
    assert found[0] == found[1]


def test_a_day_that_was_corrected_within_the_look_back_lands_again_and_none_before(
    url: str, landing: LandingFolder
) -> None:
    ask(ORDERS, landing)
    execute(url, "update orders set cents = cents + 1")

    done, _ = ask(ORDERS, landing)

    assert list(done.corrected) == [str(day(number)) for number in range(DAYS - 3, DAYS)]
    asked, _ = ask(ORDERS, landing, first=day(0), through=day(0))
    assert list(asked.corrected) == [str(day(0))]


def test_a_day_that_is_not_over_is_not_asked_for(url: str, landing: LandingFolder) -> None:
    done, _ = ask(ORDERS, landing, today=day(2), through=day(3))
    assert list(done.landed) == [str(day(0)), str(day(1))]


def test_a_day_without_rows_does_not_land_and_one_that_lost_them_stays(
    url: str, landing: LandingFolder
) -> None:
    done, _ = ask(ORDERS, landing, today=day(DAYS + 1))
    assert done.empty == [str(day(DAYS))]
    before = files(landing)
    execute(url, "delete from orders")

    lost, _ = ask(ORDERS, landing)

    assert f"orders {day(1)}: the source has no rows, where 4 had landed" in lost.failed
    assert files(landing) == before


def test_a_file_that_somebody_dropped_for_the_day_is_not_doubled(url: str, landing: LandingFolder) -> None:
    (Path(landing.root) / "orders").mkdir()
    (Path(landing.root) / "orders" / f"{day(0)}.csv").write_text("ORDER_ID\n1\n")

    done, _ = ask(ORDERS, landing, first=day(0))

    assert "remove one of them" in done.failed
    assert list(files(landing)) == [f"orders/{day(0)}.csv"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"query": "select nothing from nowhere"}, "refuses the query"),
        (
            {"query": 'select order_id as "ORDER_ID" from orders'},
            "gives no column ORDERED_AT, SHOP_ID, CENTS",
        ),
        ({"schema": {"ORDER_ID": pl.Int8, "ORDERED_AT": pl.Int64}}, "ORDERED_AT"),
        ({"most_rows": 3}, "more than 3 rows"),
        ({"url_env": "NOT_SET_ANYWHERE"}, "needs NOT_SET_ANYWHERE"),
    ],
)
def test_what_is_wrong_with_a_query_is_told_and_nothing_lands(
    url: str, landing: LandingFolder, change: dict[str, Any], said: str
) -> None:
    done, waits = ask(DatabaseSource(**{**vars(ORDERS), **change}), landing)

    assert said in done.failed
    assert done.failed.startswith(("orders ", "the source of orders"))
    assert (files(landing), waits) == ({}, [])


def test_a_database_that_is_not_there_is_asked_again_and_no_password_is_told(
    landing: LandingFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(shops.URL_ENV, f"postgresql://ada:swordfish@127.0.0.1:{free_port()}/shop")
    pytest.importorskip("psycopg2")

    done, waits = ask(ORDERS, landing)

    assert "after 4 tries" in done.failed
    assert waits == sorted(waits)
    assert len(waits) == 3
    assert "swordfish" not in done.failed


@pytest.mark.parametrize(
    "given",
    [
        "swordfish",
        "postgresql://ada:sword@fish@127.0.0.1/shop",
        "postgresql://ada:sword@fish/1@127.0.0.1/shop",
        "postgresql://ada:sword@fish:9@127.0.0.1/shop",
    ],
)
def test_a_url_that_is_none_is_refused_without_telling_it(
    given: str, landing: LandingFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("psycopg2")
    monkeypatch.setenv(shops.URL_ENV, given)
    done, waits = ask(ORDERS, landing)
    assert (shops.URL_ENV in done.failed, waits) == (True, [])
    assert "fish" not in done.failed


def test_all_pages_of_an_api_land_as_one_file(api: Api, landing: LandingFolder) -> None:
    done, waits = ask(api.source(), landing, today=day(1))

    assert (done.landed, waits) == ({str(day(0)): 5}, [])
    assert [page for _, page in api.asked] == [1, 2, 3]
    found = pl.read_parquet(Path(landing.root) / f"returns/{day(0)}.parquet")
    assert found.get_column("id").to_list() == [1, 2, 3, 4, 5]
    # Ten in a zone an hour ahead is nine in UTC.
    assert found.get_column("at").dt.hour().unique().to_list() == [9]
    assert found.get_column("note").to_list() == [None, None, None, None, "late"]


def test_an_api_that_tells_no_total_is_asked_until_a_page_is_empty(api: Api, landing: LandingFolder) -> None:
    done, _ = ask(api.source(total=""), landing, today=day(1))
    assert (done.landed, [page for _, page in api.asked]) == ({str(day(0)): 5}, [1, 2, 3, 4])


@pytest.mark.parametrize(
    ("faults", "waited"),
    [([503, 500], [1.0, 2.0]), ([429], [7.0]), (["cut"], [1.0]), (["half json", None, "cut"], [1.0, 1.0])],
)
def test_a_page_that_fails_is_asked_for_again(
    api: Api, landing: LandingFolder, faults: list[Any], waited: list[float]
) -> None:
    api.faults = list(faults)

    done, waits = ask(api.source(), landing, today=day(1))

    assert (done.landed, done.failed) == ({str(day(0)): 5}, "")
    assert waits == waited


@pytest.mark.parametrize("fault", [503, "cut", "half json"])
def test_no_part_of_a_day_lands_when_a_page_cannot_be_had(
    api: Api, landing: LandingFolder, fault: Any
) -> None:
    api.faults = [None, None, fault, fault, fault, fault]

    done, _ = ask(api.source(), landing, today=day(1))

    assert f"returns {day(0)}, page 3 of {api.url}/returns" in done.failed
    assert "after 4 tries" in done.failed
    assert files(landing) == {}


@pytest.mark.parametrize("code", [401, 404, 302])
def test_an_answer_that_will_not_change_is_told_at_once(
    api: Api, landing: LandingFolder, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setenv(shops.TOKEN_ENV, "swordfish")
    api.faults = [code]

    done, waits = ask(api.source(token_env=shops.TOKEN_ENV), landing, today=day(1))

    assert f"page 1 of {api.url}/returns: it answers {code}" in done.failed
    assert (waits, api.tokens) == ([], ["Bearer swordfish"])
    assert "swordfish" not in done.failed
    assert "hidden" not in done.failed


def test_pages_that_change_while_they_are_read_are_read_anew(api: Api, landing: LandingFolder) -> None:
    """A row that comes in front moves all others by one: the last of a page is the first of the next."""

    def insert_once(page: int) -> None:
        if len(api.asked) == 1:
            api.rows[str(day(0))].insert(0, {"id": 9, "at": f"{day(0)}T23:00:00", "note": None})

    api.after_page = insert_once

    done, _ = ask(api.source(total=""), landing, today=day(1))

    assert done.landed == {str(day(0)): 6}


def test_pages_that_never_come_to_rest_do_not_land(api: Api, landing: LandingFolder) -> None:
    api.after_page = lambda page: api.rows[str(day(0))].append({"id": 100 + len(api.asked)})

    done, waits = ask(api.source(), landing, today=day(1))

    assert f"returns {day(0)}: the pages changed while they were read, 4 times" in done.failed
    assert (files(landing), len(waits)) == ({}, 3)


def test_pages_without_end_and_pages_without_bound_are_refused(api: Api, landing: LandingFolder) -> None:
    many, _ = ask(api.source(most_pages=2), landing, today=day(1))
    large, _ = ask(api.source(most_bytes=50), landing, today=day(1))
    assert "more than 2 pages" in many.failed
    assert "more than 50 bytes" in large.failed
    assert files(landing) == {}


def test_days_before_a_failure_have_landed_and_the_next_fetch_goes_on(
    api: Api, landing: LandingFolder
) -> None:
    api.rows |= {str(day(1)): [{"id": 7, "at": f"{day(1)}T01:00:00", "note": "x"}]}
    api.faults = [None, None, None, 404]

    done, _ = ask(api.source(), landing, today=day(2))
    assert (list(done.landed), bool(done.failed)) == ([str(day(0))], True)
    again, _ = ask(api.source(), landing, today=day(2))
    assert (list(again.landed), again.unchanged) == ([str(day(1))], [str(day(0))])


def test_a_fetch_that_has_no_time_left_says_that_there_is_more(url: str, landing: LandingFolder) -> None:
    done, _ = ask(ORDERS, landing, until_s=0.0)
    assert (done.more, done.landed) == (True, {})


def test_a_value_that_is_none_of_its_type_is_named(url: str, landing: LandingFolder) -> None:
    execute(url, "update orders set ordered_at = ordered_at || 'x' where order_id = 2")
    done, _ = ask(ORDERS, landing)
    assert f"orders {day(0)}: ORDERED_AT is '{day(0)} 10:00:00x', expected Datetime" in done.failed
    assert not isinstance(done.failed, SourceError)


@pytest.mark.parametrize("value", [1_767_225_600, 1.5, b"2026-01-01"])
def test_what_is_no_time_is_refused_where_one_belongs(value: object) -> None:
    with pytest.raises(SourceError, match=r"AT is .*, expected Datetime"):
        as_table(SOLE, day(0), {"AT": [value]})


def test_a_date_is_its_midnight_where_a_time_belongs() -> None:
    found = as_table(SOLE, day(0), {"AT": [day(0), str(day(0))]})
    assert found.get_column("AT").to_list() == [datetime.combine(day(0), time())] * 2


def test_a_source_that_breaks_does_not_stop_the_others(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows_of_day = database.rows_of_day

    def broken(source: DatabaseSource, *more: Any) -> pl.DataFrame:
        if source.table == "broken":
            raise RuntimeError("swordfish")
        return rows_of_day(source, *more)

    monkeypatch.setattr(database, "rows_of_day", broken)
    named = [DatabaseSource(**{**vars(ORDERS), "table": name}) for name in ("broken", "orders")]
    monkeypatch.setattr(shops, "sources", lambda _settings: named)
    settings = Settings(home=tmp_path / "home", domains=("assets_tests.fetching.shops",))

    found = fetch_sources(settings, first=day(0), through=day(1))

    assert (
        found["broken"].failed
        == f"broken {day(0)}: the fetch broke off with RuntimeError; the log says where"
    )
    assert (list(found["orders"].landed), found["orders"].failed) == ([str(day(0)), str(day(1))], "")


def test_the_command_lands_and_a_second_one_causes_nothing(url: str, tmp_path: Path) -> None:
    home, given = tmp_path / "home", {"domains": "assets_tests.fetching.shops"}
    span = ("--from", str(day(0)), "--through", str(day(2)))
    told = answer(start(home, "fetch", "--table", "orders", *span, "--json", **given))
    assert told["orders"]["landed"] == {str(day(number)): 4 for number in range(3)}
    settings = Settings(home=home, domains=("assets_tests.fetching.shops",))
    with opened(settings) as session:
        assert set(session.refresh().outcome.computed) == {"raw/orders", "validated/orders", "shop_week"}
        answer(start(home, "fetch", *span, "--json", **given))
        report = session.refresh()
        assert (report.outcome.computed, report.runs) == ({}, 0)
        execute(url, f"update orders set cents = 1 where ordered_at = '{day(2)} 10:00:00'")
        answer(start(home, "fetch", *span, "--json", **given))
        assert session.refresh().outcome.computed == {
            name: [str(day(2))] for name in ("raw/orders", "validated/orders", "shop_week")
        }
    execute(url, "drop table orders")
    refused = start(home, "fetch", *span, "--json", **given)
    _, said = refused.communicate(timeout=120)
    assert refused.returncode == 1
    assert "refuses the query: no such table: orders" in said


def test_the_sensor_lands_what_is_owed_and_fails_where_a_source_does(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    near = DatabaseSource(**{**vars(ORDERS), "first": day(0), "query": ORDERS.query})
    monkeypatch.setattr(shops, "sources", lambda _settings: [near])
    settings = Settings(home=tmp_path / "home", domains=("assets_tests.fetching.shops",))
    with opened(settings) as session:
        repository = session.definitions.get_repository_def()
        sensor = repository.get_sensor_def(FETCH_SENSOR)
        with dg.build_sensor_context(instance=session.instance, repository_def=repository) as context:
            assert f"landed orders {day(0)}: 4 rows" in str(sensor.evaluate_tick(context).skip_message)
            monkeypatch.setattr(
                shops, "sources", lambda _s: [DatabaseSource(**{**vars(near), "query": "select"})]
            )
            with pytest.raises(Exception, match="orders 20"):
                sensor.evaluate_tick(context)


def test_a_table_that_no_source_is_declared_for_is_refused_and_no_source_is_nothing_to_do(
    tmp_path: Path,
) -> None:
    given = {"domains": "assets_tests.operations.shop"}
    assert answer(start(tmp_path / "home", "fetch", "--json", **given)) == {}
    refused = start(tmp_path / "home", "fetch", "--table", "returns", **given)
    _, said = refused.communicate(timeout=120)
    assert (refused.returncode, "there is no source of returns; there are none" in said) == (2, True)


def test_the_declarations_of_the_page_can_be_made() -> None:
    (text,) = re.findall(r"```python\n(.*?)```", (CHECKOUT / "docs" / "sources.md").read_text(), re.S)
    names: dict[str, Any] = {}
    exec(text, names)
    assert [source.table for source in names["sources"](None)] == ["orders", "returns"]


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server on loopback, in a zone that is not UTC."""
    pytest.importorskip("psycopg2")
    with postgres_server.postgres("timezone=America/New_York") as named:
        yield f"postgresql://{named['PGUSER']}:swordfish@127.0.0.1:{named['PGPORT']}/{named['PGDATABASE']}"


@pytest.mark.slow
def test_postgresql_gives_the_days_in_utc_as_sqlite_does(
    postgres: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(ORDERS, LandingFolder(tmp_path / "sqlite"))
    fill(postgres, DAYS, zone=True)
    monkeypatch.setenv(shops.URL_ENV, postgres)

    done, _ = ask(ORDERS, LandingFolder(tmp_path / "postgres"))

    assert len(done.landed) == DAYS
    for number in range(DAYS):
        pair = [
            pl.read_parquet(tmp_path / name / "orders" / f"{day(number)}.parquet")
            for name in ("sqlite", "postgres")
        ]
        assert pair[0].equals(pair[1])
    execute(postgres, "create sequence numbers")
    writing = DatabaseSource(**{**vars(ORDERS), "query": "select nextval('numbers'), :day, :next_day"})
    refused, _ = ask(writing, LandingFolder(tmp_path / "other"))
    assert "read-only transaction" in refused.failed
