"""Online state of a home's partitions: what it takes in as days land, and what it lets go of."""

from pathlib import Path

import polars as pl
import pytest

from assets_tests import homes
from my_platform.domains.fraud.contracts import TRANSACTIONS as CONTRACT
from my_platform.domains.fraud.features import TRANSACTIONS
from my_platform.features.declaration import count, feature_set
from my_platform.features.online import OnlineFeatures, compile_online
from my_platform.operations.serving import Partitions
from my_platform.operations.session import Session
from my_platform.serving.sqlite_store import SqliteStore
from my_platform.serving.state import OnlineState

WINDOW_DAYS, LATE_DAYS = 3, 2
CARDS = 20


@pytest.fixture
def form() -> OnlineFeatures:
    """How many transactions a card had in a window."""
    declared = feature_set(
        "spending",
        rows=TRANSACTIONS,
        entity="CUSTOMER_ID",
        time="TX_DATETIME",
        order="TRANSACTION_ID",
        keep=("TRANSACTION_ID", "TX_DATETIME"),
        aggregates={"n": count(days=WINDOW_DAYS)},
        columns={"PAYMENTS": pl.col("n")},
    )
    return compile_online(declared, dict(CONTRACT.schema), lateness_days=LATE_DAYS)


def land(session: Session, days: int) -> None:
    homes.land(session.settings.home / "landing", days, customers=CARDS, terminals=40)
    names = session.workspace.project.ancestors([TRANSACTIONS])
    assert session.refresh(select=",".join(sorted(names))).problems == []


def events(store: SqliteStore) -> list[tuple[int, object]]:
    return [event[:2] for card in range(CARDS) for event in store.events("spending", card)]


def test_a_state_that_follows_the_landed_days_is_one_that_is_made_anew_of_them(
    form: OnlineFeatures, tmp_path: Path
) -> None:
    followed, anew = SqliteStore(tmp_path / "followed.sqlite"), SqliteStore(tmp_path / "anew.sqlite")
    home = tmp_path / "home"
    with homes.session(home) as session:
        land(session, 9)
        partitions = Partitions(
            [form], session.workspace, session.heads, OnlineState([form], followed), followed
        )
        assert partitions.take_in() > 0
        assert partitions.later() is None
        before = len(events(followed))
    with homes.session(home) as session:
        land(session, 18)
        state = OnlineState([form], followed)
        taken_in = Partitions([form], session.workspace, session.heads, state, followed).later()
        assert taken_in is not None
        assert taken_in() > 0
        Partitions([form], session.workspace, session.heads, OnlineState([form], anew), anew).take_in()

    assert 0 < len(events(followed)) < 2 * before
    assert events(followed) == events(anew)
    assert followed.forgotten("spending") == anew.forgotten("spending")
    followed.close()
    anew.close()
