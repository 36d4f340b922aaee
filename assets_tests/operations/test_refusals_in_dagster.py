"""What the Dagster UI shows of bad rows and of refused deliveries, by partition."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from assets_tests.operations import shop
from assets_tests.operations.dagster_shop import day
from my_platform.operations.session import Session, opened
from my_platform.storage.lake import ABSENT

VALID = dg.AssetKey(["validated", "orders"])


@pytest.fixture
def session(folder: Path) -> Iterator[Session]:
    """Twelve orders of one day, one of them with a negative amount; and a second day."""
    rows = [f"{n},{day(0)} {n:02}:00:00,1,{-7 if n == 4 else 100}" for n in range(12)]
    shop.land(folder, date.fromisoformat(day(1)))
    path = folder / "landing" / "orders" / f"{day(0)}.csv"
    path.write_text("\n".join(["ORDER_ID,ORDERED_AT,SHOP_ID,CENTS", *rows, ""]))
    with opened(shop.settings(folder)) as found:
        assert found.refresh().problems == []
        yield found


def test_bad_rows_are_a_table_of_their_materialization(session: Session) -> None:
    (record,) = session.instance.fetch_materializations(
        dg.AssetRecordsFilter(VALID, asset_partitions=[day(0)]), limit=10
    ).records
    assert record.asset_materialization is not None
    shown = record.asset_materialization.metadata["quarantine"]
    assert isinstance(shown, dg.TableMetadataValue)
    (row,) = shown.records
    assert (row.data["row_number"], row.data["column"], row.data["value"]) == (4, "CENTS", "-7")


def test_a_refused_delivery_is_an_observation_of_its_partition(session: Session) -> None:
    before = session.versions()
    path = session.workspace.landing.place.root + f"/orders/{day(1)}.csv"
    Path(path).write_text(Path(path).read_text().replace("CENTS", "AMOUNT"))
    assert list(session.refresh().outcome.failed) == ["raw/orders"]
    (record,) = session.instance.fetch_observations(dg.AssetKey(["raw", "orders"]), limit=10).records
    observation = record.asset_observation
    assert observation is not None
    assert observation.partition == day(1)
    assert path in str(observation.metadata["refused"].value)
    columns = observation.metadata["columns"]
    assert isinstance(columns, dg.TableMetadataValue)
    assert [(row.data["column"], row.data["difference"]) for row in columns.records] == [
        ("CENTS", "missing"),
        ("AMOUNT", "added"),
        ("CENTS", "renamed"),
    ]
    assert session.versions() == before


def test_a_refusal_is_observed_once_however_often_it_is_told(session: Session) -> None:
    path = Path(session.workspace.landing.place.root) / "orders" / f"{day(1)}.csv"
    path.write_bytes(b"")
    for _ in range(3):
        assert list(session.refresh().outcome.failed) == ["raw/orders"]
    assert len(session.instance.fetch_observations(dg.AssetKey(["raw", "orders"]), limit=10).records) == 1


def test_the_events_of_a_partition_are_its_history(session: Session) -> None:
    path = Path(session.workspace.landing.place.root) / "orders" / f"{day(0)}.csv"
    landed = path.read_text()
    raw = [session.versions()["raw/orders"][day(0)]]
    for text in (landed.replace(",100", ",200"), landed):
        path.write_text(text)
        session.refresh()
        raw.append(session.versions()["raw/orders"][day(0)])
    path.unlink()
    session.refresh()
    told = session.heads.history("raw/orders", day(0))
    assert [version for _, version in sorted(told)] == [*raw, ABSENT]
    assert (raw[0], len({*raw})) == (raw[2], 2)
    numbers = [number for name in session.versions() for number, _ in session.heads.history(name, day(0))]
    assert len(numbers) == len({*numbers})
