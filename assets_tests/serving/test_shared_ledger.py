"""A service on one of several machines: it follows the ledger that they share, and goes on while the bucket is silent."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from assets_tests.serving.service_home import until
from my_platform.domains.fraud.service import services
from my_platform.errors import StorageUnavailable
from my_platform.learning.bundle import write_bundle
from my_platform.learning.ledger import Line, Served
from my_platform.learning.registry_place import RegistryPlace
from my_platform.serving.app import Rhythm, ScoringService
from my_platform.serving.champion import Champion
from my_platform.serving.gate import Bounds
from my_platform.serving.log import PredictionLog
from my_platform.serving.sqlite_store import SqliteStore
from my_platform.serving.state import OnlineState
from my_platform.serving.tokens import Tokens
from my_platform.settings import Settings
from my_platform.storage.objects import FolderStore

if TYPE_CHECKING:
    from starlette.testclient import TestClient

# Which HTTP client its test client prefers is Starlette's to say.
pytestmark = pytest.mark.filterwarnings("ignore:Using `httpx`")


class Silent(FolderStore):
    """A store that can be made not to answer."""

    gone = False

    def read(self, path: str) -> bytes:
        self._ask(path)
        return super().read(path)

    def list(self, prefix: str) -> Any:
        self._ask(prefix)
        return super().list(prefix)

    def _ask(self, path: str) -> None:
        if self.gone:
            raise StorageUnavailable(f"{self.root}/{path}", "read", 2.0, "a test")


@pytest.fixture
def store(tmp_path: Path) -> Silent:
    return Silent(tmp_path / "store")


@pytest.fixture
def champion(tmp_path: Path, store: Silent) -> Champion:
    return Champion(RegistryPlace(tmp_path / "registry", lambda: store), "fraud", [], {})


@pytest.fixture
def promote(tmp_path: Path) -> Callable[[bytes], str]:
    """Promotes a model on another machine, and gives its bundle."""
    other = RegistryPlace(tmp_path / "other", lambda: FolderStore(tmp_path / "store"))

    def promoted(model: bytes) -> str:
        digest = write_bundle(other.bundles, {"code": {}}, {"model.onnx": model})
        seen = other.promotions().standing("fraud")
        after = Served("trees", "2026-01-07", "v", "r", digest)
        line = Line("2026-01-15T12:00:00+00:00", "a", "promote", "fraud", "", seen.champion, after)
        assert other.promotions().append(line, seen)
        return digest

    return promoted


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(r.levelname, r.getMessage()[:20]) for r in caplog.records if r.name == "my_platform.serving"]


def test_a_champion_of_another_machine_is_seen_after_a_pull(
    champion: Champion, promote: Callable[[bytes], str]
) -> None:
    promote(b"one")
    assert not champion.moved()
    champion.pull()
    assert champion.moved()
    champion.pull()
    assert not champion.moved()


def test_a_silent_bucket_is_told_of_once_and_once_when_it_answers(
    champion: Champion,
    store: Silent,
    promote: Callable[[bytes], str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    promote(b"one")
    champion.pull()
    assert champion.moved()
    store.gone = True
    for _ in range(3):
        champion.pull()
        assert not champion.moved()
    assert told(caplog) == [("ERROR", "the shared ledgers c")]
    store.gone = False
    promote(b"two")
    for _ in range(2):
        champion.pull()
    assert champion.moved()
    assert told(caplog)[1:] == [("INFO", "the shared ledgers c")]


def test_a_service_follows_the_shared_ledger_also_where_it_began_without_the_bucket(
    tmp_path: Path, store: Silent, champion: Champion, promote: Callable[[bytes], str]
) -> None:
    from starlette.testclient import TestClient

    (service,) = services(Settings())
    online = SqliteStore(tmp_path / "state.sqlite")
    log = PredictionLog(tmp_path / "log.sqlite")
    state = OnlineState(service.forms(), online)
    scoring = ScoringService(
        service, state, log, champion, Tokens([], 1_000.0), Bounds(10_000, 5.0), most_rows=3, whole=True,
        rhythm=Rhythm(ledger_s=0.01, bucket_s=0.01),
    )  # fmt: skip

    def refused(client: "TestClient") -> str | None:
        """The bundle that was looked at: those of this test hold no model."""
        return (client.get("/v1/model").json()["refused"] or {}).get("bundle")

    store.gone = True
    bundle = promote(b"one")
    with TestClient(scoring.endpoint, base_url="http://localhost") as client:
        assert client.get("/healthz").status_code == 200
        assert refused(client) is None
        store.gone = False
        until(lambda: refused(client) == bundle)
        bundle = promote(b"two")
        until(lambda: refused(client) == bundle)
    log.close()
    online.close()
