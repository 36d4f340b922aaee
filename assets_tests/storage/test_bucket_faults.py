"""Every fault that a bucket and the network to it may have, at every kind of request: it is survived, with one effect."""

from collections.abc import Iterator

import boto3
import pytest

from assets_tests.storage.conftest import BUCKET, Servers, client
from assets_tests.storage.fault_proxy import Ask, Fault, FaultProxy, at, fault_proxy, none
from assets_tests.storage.s3_servers import variables
from my_platform.errors import StorageUnavailable
from my_platform.storage import bucket as bucket_module
from my_platform.storage.bucket import Bucket, Patience, open_bucket
from my_platform.storage.places import LandingBucket

pytestmark = pytest.mark.s3
# Longer than a client waits for one answer here.
SILENCE_S = 2.0
DATA = b"0123456789" * 20_000
UNANSWERED = (Fault.LOST_REPLY, Fault.LATE_REPLY)
ONLY_FOR_WRITES = (Fault.CONFLICT, Fault.PRECONDITION, Fault.CUT_UPLOAD)


@pytest.fixture(scope="module", params=["moto", pytest.param("ceph", marks=pytest.mark.slow)])
def proxy(request: pytest.FixtureRequest, servers: Servers) -> Iterator[FaultProxy]:
    upstream = servers.url(request.param)
    # The first object of a server takes it longer than a client waits here.
    client(upstream).put_object(Bucket=BUCKET, Key="first", Body=b"x")
    with fault_proxy(upstream) as running:
        yield running


@pytest.fixture
def bucket(
    proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Bucket]:
    for name, value in variables(proxy.url).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(bucket_module, "FIRST_WAIT_S", 0.01)
    proxy.effects.clear()
    proxy.injected.clear()
    yield open_bucket(f"s3://{BUCKET}/{abs(hash(request.node.nodeid)):x}", Patience(60.0, SILENCE_S))
    proxy.plan, proxy.gone = none, False


def puts(proxy: FaultProxy, path: str) -> int:
    """How often an object was written."""
    return sum(proxy.written(f"/{path}").values())


@pytest.mark.parametrize("fault", Fault)
def test_a_new_object_is_written_once(bucket: Bucket, proxy: FaultProxy, fault: Fault) -> None:
    proxy.plan = at(fault, [1, 2], method="PUT")
    created = bucket.put_new("a", DATA)
    assert proxy.injected[fault] >= 1
    assert puts(proxy, "a") == 1
    # Whose reply was lost finds its own object; who it was, its bytes tell.
    assert created == (fault not in UNANSWERED)
    assert bucket.get("a") == DATA
    assert not bucket.put_new("a", b"another")
    assert bucket.get("a") == DATA


@pytest.mark.parametrize("fault", UNANSWERED)
def test_who_writes_where_landed_files_lie_knows_its_own_file_again(
    bucket: Bucket, proxy: FaultProxy, fault: Fault
) -> None:
    place = LandingBucket(bucket.root, bucket.patience)
    proxy.plan = at(fault, [1], method="PUT")
    assert place.create_new("decided.json", b"mine")
    assert not place.create_new("decided.json", b"another's")


@pytest.mark.parametrize("fault", Fault)
def test_an_object_is_replaced(bucket: Bucket, proxy: FaultProxy, fault: Fault) -> None:
    proxy.plan = at(fault, [1, 2], method="PUT")
    bucket.put("a", DATA)
    assert bucket.get("a") == DATA


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault not in ONLY_FOR_WRITES])
def test_an_object_is_read_whole(bucket: Bucket, proxy: FaultProxy, fault: Fault) -> None:
    bucket.put("a", DATA)
    proxy.plan = at(fault, [1, 2], method="GET")
    assert bucket.get("a") == DATA
    assert proxy.injected[fault] >= 1
    proxy.plan = at(fault, [1, 2], method="HEAD")
    found = bucket.head("a")
    assert found is not None
    assert found["size"] == len(DATA)


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault not in ONLY_FOR_WRITES])
def test_a_listing_has_each_object_once(bucket: Bucket, proxy: FaultProxy, fault: Fault) -> None:
    for number in range(5):
        bucket.put(f"a/{number}", b"x")
    proxy.plan = at(fault, [1, 2], method="LIST")
    assert sorted(entry["path"] for entry in bucket.list("a/")) == [f"a/{number}" for number in range(5)]
    assert proxy.injected[fault] >= 1


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.PRECONDITION])
def test_a_removed_object_is_gone(bucket: Bucket, proxy: FaultProxy, fault: Fault) -> None:
    bucket.put("a", DATA)
    proxy.plan = at(fault, [1, 2])
    bucket.delete("a")
    proxy.plan = none
    assert bucket.head("a") is None


def test_one_of_two_who_write_at_once_wins_though_both_hear_of_a_conflict(
    bucket: Bucket, proxy: FaultProxy
) -> None:
    other = open_bucket(bucket.root, bucket.patience)
    proxy.plan = at(Fault.CONFLICT, [1, 2], method="PUT")
    assert bucket.put_new("a", b"first")
    assert not other.put_new("a", b"second")
    assert bucket.get("a") == b"first"


def test_a_bucket_that_is_gone_is_waited_for_once_and_named(bucket: Bucket, proxy: FaultProxy) -> None:
    bucket.put("a", DATA)
    patient = open_bucket(bucket.root, Patience(0.5, SILENCE_S))
    proxy.gone = True
    with pytest.raises(
        StorageUnavailable, match=rf"^{bucket.root}/a could not be read within .*MY_PLATFORM_BUCKET"
    ):
        patient.get("a")
    asked = proxy.injected[Fault.HUNG_UP]
    assert asked > 2
    for call in (lambda: patient.get("a"), lambda: patient.head("a"), lambda: patient.put_new("b", b"x")):
        before = proxy.injected[Fault.HUNG_UP]
        with pytest.raises(StorageUnavailable):
            call()
        assert proxy.injected[Fault.HUNG_UP] - before <= 2
    proxy.gone = False
    assert patient.get("a") == DATA
    assert patient.put_new("b", b"x")


def test_what_comes_again_is_not_asked_for_again(
    bucket: Bucket, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = open_bucket("s3://no-such-bucket-anywhere/x", bucket.patience)
    with pytest.raises(FileNotFoundError):
        nowhere.get("a")
    with pytest.raises(Exception, match="NoSuchBucket"):
        nowhere.put("a", b"x")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "false")
    with pytest.raises(Exception, match="builder error"):
        open_bucket(bucket.root, bucket.patience).get("a")


def test_the_requests_that_a_fault_adds_are_told_as_one(bucket: Bucket, proxy: FaultProxy) -> None:
    proxy.plan = at(Fault.BROKEN, [1, 2], method="PUT")
    bucket.put("a", DATA)
    assert bucket.traffic.so_far.total == 1
    assert bucket.traffic.so_far.bytes_written == len(DATA)


def test_the_proxy_passes_on_what_boto_sends_and_gets(bucket: Bucket, proxy: FaultProxy) -> None:
    boto = boto3.client("s3", endpoint_url=proxy.url, region_name="us-east-1")
    key = f"{bucket.root.removeprefix(f's3://{BUCKET}/')}/of boto+x"
    boto.put_object(Bucket=BUCKET, Key=key, Body=DATA * 10)
    assert boto.get_object(Bucket=BUCKET, Key=key)["Body"].read() == DATA * 10
    assert bucket.get("of boto+x") == DATA * 10
    assert Ask("PUT", f"/{BUCKET}/{key.replace(' ', '%20').replace('+', '%2B')}") in proxy.effects
