"""A build on a bucket that fails in every way a bucket can is the build on one that does not, each value written once."""

import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assets_tests.homes import Versions, answer, start
from assets_tests.operations import shop
from assets_tests.operations.faulty_s3 import BUCKET, DAYS, FaultyS3, clean_versions, faulty_s3, once_each
from assets_tests.storage import s3_servers
from assets_tests.storage.fault_proxy import Ask, Fault, Plan, at, at_random, can_meet
from assets_tests.storage.s3_servers import KEY, SECRET
from my_platform.errors import PlatformError, StorageUnavailable
from my_platform.learning.tracking import ModelRun, Tracker
from my_platform.operations.session import opened
from my_platform.settings import Settings
from my_platform.storage import bucket

pytestmark = pytest.mark.s3
SILENCE_S = 1.0
WAITING = (Fault.LATE_REPLY, Fault.STALLED_DOWNLOAD)
QUICK = tuple(fault for fault in Fault if fault not in WAITING)
# One that is answered, one that may have had an effect, and one in the middle of it; the others take longer together.
OF_EACH_KIND = (Fault.CONFLICT, Fault.LOST_REPLY, Fault.CUT_DOWNLOAD)
DOMAIN = "assets_tests.operations.shop"


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with s3_servers.moto_server() as url:
        yield url


@pytest.fixture(scope="module")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if missing := s3_servers.missing_for_ceph():
        pytest.skip(
            f"{', '.join(missing)} is missing; as root: apt-get install -y {s3_servers.CEPH_PACKAGES}"
        )
    with s3_servers.ceph_server(tmp_path_factory.mktemp("ceph") / "server", KEY, SECRET) as url:
        yield url


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Versions:
    return clean_versions(tmp_path_factory.mktemp("clean"))


@pytest.fixture(scope="module")
def corrected(tmp_path_factory: pytest.TempPathFactory) -> Versions:
    return clean_versions(tmp_path_factory.mktemp("corrected"), corrected=2)


@pytest.fixture(params=["moto", pytest.param("ceph", marks=pytest.mark.slow)])
def faulty(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    monkeypatch.setattr(bucket, "FIRST_WAIT_S", 0.02)
    upstream = request.getfixturevalue(request.param)
    with faulty_s3(upstream, monkeypatch, uuid.uuid4().hex) as made:
        for number in range(DAYS):
            made.land(number)
        yield made


def settings(home: Path, faulty: FaultyS3, **given: Any) -> Settings:
    usual = {"bucket_url": faulty.url, "bucket_silence_s": SILENCE_S, "bucket_patience_s": 60}
    return shop.settings(home, **{**usual, **given})


def every(step: int, fault: Fault) -> Plan:
    """A fault at every so many-th of the requests that can meet it."""
    seen = [0]

    def plan(ask: Ask) -> Fault | None:
        if not can_meet(fault, ask):
            return None
        seen[0] += 1
        return fault if seen[0] % step == 0 else None

    return plan


@pytest.mark.parametrize(
    "fault",
    [fault if fault in OF_EACH_KIND else pytest.param(fault, marks=pytest.mark.slow) for fault in Fault],
)
def test_a_build_survives_a_fault_that_comes_again_and_again(
    tmp_path: Path, faulty: FaultyS3, clean: Versions, fault: Fault
) -> None:
    faulty.proxy.plan = every(17 if fault is Fault.LATE_REPLY else 4, fault)
    with opened(settings(tmp_path / "home", faulty)) as session:
        report = session.refresh()
        assert report.problems == []
        assert report.runs == 1
        assert session.versions() == clean
        assert {a: sorted(keys) for a, keys in report.outcome.computed.items()} == {
            asset: sorted(keys) for asset, keys in clean.items()
        }
        assert set(faulty.commits().values()) == {1}
        assert faulty.stored() == once_each(clean)
        again = session.refresh().as_json()
        assert (again["runs"], again["computed"]) == (0, {})
    assert faulty.proxy.injected[fault] >= 2


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 6))])
def test_a_build_and_a_correction_survive_faults_of_all_kinds(
    tmp_path: Path, faulty: FaultyS3, clean: Versions, corrected: Versions, seed: int
) -> None:
    faulty.proxy.plan = at_random(seed, 0.25, QUICK)
    with opened(settings(tmp_path / "home", faulty)) as session:
        assert session.refresh().problems == []
        assert session.versions() == clean
        faulty.land(2, extra_cents=1)
        report = session.refresh()
        assert report.problems == []
        assert session.versions() == corrected
        changed = {a for a in clean if clean[a] != corrected[a]}
        assert set(report.outcome.computed) >= changed
        faulty.land(2)
        back = session.refresh().as_json()
        assert (back["computed"], set(back["reused"])) == ({}, changed)
        assert session.versions() == clean
    assert set(faulty.commits().values()) == {1}
    assert sum(faulty.proxy.injected.values()) > 50


@pytest.mark.parametrize("writes", [1, 12])
def test_storage_that_is_gone_for_good_ends_the_run_and_the_next_one_goes_on(
    tmp_path: Path, faulty: FaultyS3, clean: Versions, writes: int
) -> None:
    def goes(ask: Ask) -> Fault | None:
        """The server is gone once so many objects were written."""
        faulty.proxy.gone |= ask.method == "PUT" and sum(faulty.proxy.written().values()) >= writes
        return Fault.HUNG_UP if faulty.proxy.gone else None

    faulty.proxy.plan = goes
    given = settings(tmp_path / "home", faulty, bucket_patience_s=1)
    with opened(given) as session:
        with pytest.raises(PlatformError) as told:
            session.refresh()
        asked = sum(faulty.proxy.injected.values())
        # It is waited for once, and then asked a few times more: not by each partition that is left.
        assert asked < 40
        # Asset, partition, place, and what to do.
        text = str(told.value)
        assert "orders 2026-01-" in text
        assert f"{faulty.url}/lake/" in text
        assert "could not be written within" in text
        assert "run the same again" in text
        committed = faulty.stored()
        assert committed.total() == writes
        faulty.proxy.plan, faulty.proxy.gone = (lambda _: None), False
        report = session.refresh()
        assert report.problems == []
        assert session.versions() == clean
        assert sum(map(len, report.outcome.computed.values())) == once_each(clean).total() - writes
    assert set(faulty.commits().values()) == {1}


def test_a_bucket_that_cannot_be_listed_ends_the_command_in_words(tmp_path: Path, faulty: FaultyS3) -> None:
    faulty.proxy.gone = True
    given = settings(tmp_path / "home", faulty, bucket_patience_s=0)
    with opened(given) as session, pytest.raises(StorageUnavailable, match=f"{faulty.url}/lake/"):
        session.refresh()
    process = start(
        tmp_path / "home", "refresh", "--json", domains=DOMAIN, bucket_url=faulty.url, bucket_patience_s=0
    )
    out, errors = process.communicate(timeout=600)
    assert (process.returncode, out) == (1, "")
    assert errors.startswith(f"my-platform: {faulty.url}/lake/")
    assert "Traceback" not in errors


@pytest.mark.slow
def test_an_outage_in_the_middle_is_waited_for(tmp_path: Path, faulty: FaultyS3, clean: Versions) -> None:
    process = start(
        tmp_path / "home",
        "refresh",
        "--json",
        domains=DOMAIN,
        bucket_url=faulty.url,
        bucket_silence_s=SILENCE_S,
    )
    for number in (5, 15, 25):
        while faulty.commits().total() < number:
            assert process.poll() is None
            time.sleep(0.01)
        faulty.proxy.gone = True
        before = faulty.proxy.injected[Fault.HUNG_UP]
        while faulty.proxy.injected[Fault.HUNG_UP] < before + 6:
            time.sleep(0.01)
        faulty.proxy.gone = False
    done = answer(process)
    assert done["failed"] == {}
    assert {asset: sorted(keys) for asset, keys in done["computed"].items()} == {
        asset: sorted(keys) for asset, keys in clean.items()
    }
    assert set(faulty.commits().values()) == {1}


@pytest.mark.slow
@pytest.mark.parametrize("fault", [Fault.SLOW_DOWN, Fault.CUT_UPLOAD, Fault.LOST_REPLY, Fault.HUNG_UP])
def test_the_artifacts_of_models_survive_what_boto_meets(
    tmp_path: Path, faulty: FaultyS3, fault: Fault
) -> None:
    run = ModelRun("shop", "trees", "v1", {}, {}, {"week": "2026-01-07"}, {"model.txt": b"a" * 100_000})
    tracker = Tracker(tmp_path / "mlflow", artifacts=f"{faulty.url}/mlflow")
    faulty.proxy.plan = at(fault, [1, 2], method="PUT")
    first = tracker.log_model(run)
    assert faulty.proxy.injected[fault] == 2
    assert tracker.log_model(run) == first
    (key,) = faulty.proxy.written(f"{faulty.prefix}/mlflow/")
    body = faulty.client.get_object(Bucket=BUCKET, Key=key.removeprefix(f"/{BUCKET}/"))["Body"].read()
    assert body == b"a" * 100_000


@pytest.mark.slow
def test_a_model_whose_artifacts_cannot_be_stored_is_not_tracked(tmp_path: Path, faulty: FaultyS3) -> None:
    run = ModelRun("shop", "trees", "v1", {}, {}, {"week": "2026-01-07"}, {"model.txt": b"a"})
    tracker = Tracker(tmp_path / "mlflow", artifacts=f"{faulty.url}/mlflow")
    faulty.proxy.gone = True
    with pytest.raises(Exception, match=r"(?i)connect|upload"):
        tracker.log_model(run)
    assert tracker.find("shop", "v1") is None
    faulty.proxy.gone = False
    assert tracker.log_model(run)
