"""Machines that share a registry: who is promoted on one serves on the other, with the bundle, and old homes join."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from my_platform.errors import PlatformError
from my_platform.learning.bundle import read_bundle, write_bundle
from my_platform.learning.ledger import Line, Served
from my_platform.learning.registry_place import RegistryPlace
from my_platform.learning.thresholds import ByChecks
from my_platform.settings import Settings
from my_platform.storage.objects import FolderStore, ObjectStore

USE = "shop"
AT = "2026-01-15T12:00:00+00:00"


class Dying(FolderStore):
    """A store whose machine dies before it writes an object that a test names."""

    def __init__(self, root: Path, at: str) -> None:
        super().__init__(root)
        self.at = at

    def create(self, path: str, data: bytes) -> bool:
        if self.at in path:
            raise KeyboardInterrupt(path)
        return super().create(path, data)


@pytest.fixture
def machine(tmp_path: Path) -> Callable[..., RegistryPlace]:
    """Machines by name, which share a store; or have one of their own."""

    def made(name: str, store: ObjectStore | None = None) -> RegistryPlace:
        return RegistryPlace(tmp_path / name, lambda: store or FolderStore(tmp_path / "store"))

    return made


Machine = Callable[..., RegistryPlace]


def promote(place: RegistryPlace, model: bytes) -> Served:
    """Make a model champion, whose bundle has one file, with no gate asked."""
    digest = write_bundle(place.bundles, {"code": {}}, {"files/model.txt": model})
    ledger = place.promotions()
    seen = ledger.standing(USE)
    after = Served("trees", "2026-01-07", "v", "r", digest)
    assert ledger.append(Line(AT, "test", "promote", USE, "", seen.champion, after), seen)
    return after


def champion(place: RegistryPlace) -> bytes:
    """The model file that serves on a machine."""
    served = place.promotions().standing(USE).champion
    assert served is not None
    return read_bundle(place.bundles, served.bundle).files["files/model.txt"]


def objects(tmp_path: Path) -> set[str]:
    return {path for path, _ in FolderStore(tmp_path / "store").list("")}


def test_a_champion_of_one_machine_serves_on_the_other(machine: Machine) -> None:
    first, second = machine("first"), machine("second")
    promote(first, b"one")
    assert champion(second) == b"one"
    promote(second, b"two")
    assert champion(first) == b"two"
    # What is read without a request has all that its lines name.
    assert champion(first.copy) == champion(second.copy) == b"two"


def test_a_promotion_that_had_not_seen_the_other_machines_is_not_written(machine: Machine) -> None:
    first, second = machine("first"), machine("second")
    seen = first.promotions().standing(USE)
    promote(second, b"two")
    after = Served("trees", "2026-01-07", "v", "r", write_bundle(first.bundles, {"code": {}}, {}))
    assert not first.promotions().append(Line(AT, "test", "promote", USE, "", None, after), seen)
    assert champion(first) == b"two"


def test_a_threshold_is_chosen_for_all_machines(machine: Machine) -> None:
    machine("first").thresholds().choose(USE, ByChecks(7), who="ada", why="a test")
    chosen = machine("second").thresholds().present(USE)
    assert (chosen.policy, chosen.version, chosen.who) == (ByChecks(7), 1, "ada")


@pytest.mark.parametrize("at", ["model.txt", "bundle.json", "promotions/"])
def test_who_dies_before_the_line_has_promoted_nobody(machine: Machine, tmp_path: Path, at: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        promote(machine("first", Dying(tmp_path / "store", at)), b"one")
    assert not any(path.startswith("promotions/") for path in objects(tmp_path))
    for name in ("first", "second"):
        assert machine(name).promotions().standing(USE).champion is None
    promote(machine("first"), b"one")
    assert champion(machine("second")) == b"one"


def test_the_registry_of_an_old_home_is_sent_once(machine: Machine, tmp_path: Path) -> None:
    alone = machine("first").copy
    for model in (b"one", b"two"):
        promote(alone, model)
    alone.thresholds().choose(USE, ByChecks(7), who="ada", why="a test")
    before = {path: path.read_bytes() for path in alone.folder.rglob("*.jsonl")}
    for _ in range(2):
        assert machine("first").pull() == 3
    assert sum("promotions/" in path or "thresholds/" in path for path in objects(tmp_path)) == 3
    assert {path: path.read_bytes() for path in before} == before
    second = machine("second")
    assert champion(second) == b"two"
    assert second.thresholds().present(USE).policy == ByChecks(7)


@pytest.mark.parametrize("at", ["model.txt", "bundle.json", "promotions/00000002"])
def test_an_old_home_whose_sending_was_cut_off_is_sent_by_the_next_try(
    machine: Machine, tmp_path: Path, at: str
) -> None:
    for model in (b"one", b"two"):
        promote(machine("first").copy, model)
    with pytest.raises(KeyboardInterrupt):
        machine("first", Dying(tmp_path / "store", at)).pull()
    assert machine("first").pull() == 2
    assert champion(machine("second")) == b"two"


def test_two_homes_with_a_registry_of_their_own_are_told_apart(machine: Machine) -> None:
    for name in ("first", "second"):
        promote(machine(name).copy, name.encode())
    machine("first").pull()
    second = machine("second")
    with pytest.raises(
        PlatformError, match=r"second/promotions\.jsonl, line 1 is not what .*promotions/00000001\.json"
    ):
        second.pull()
    assert champion(second.copy) == b"second"
    assert champion(machine("third")) == b"first"


@pytest.mark.parametrize("what", ["damaged", "gone"])
@pytest.mark.parametrize("name", ["bundle.json", "files/model.txt"])
def test_a_bundle_that_is_not_whole_in_the_store_is_named_and_nothing_taken(
    machine: Machine, tmp_path: Path, name: str, what: str
) -> None:
    bundle = promote(machine("first"), b"one").bundle
    file = tmp_path / "store" / "bundles" / bundle / name
    data = file.read_bytes()
    file.write_bytes(data[:-1]) if what == "damaged" else file.unlink()
    second = machine("second")
    with pytest.raises(PlatformError, match=rf"store/bundles/{bundle}/{name}: "):
        second.pull()
    assert second.copy.promotions().uses() == []
    file.write_bytes(data)
    assert champion(second) == b"one"


def test_a_bundle_that_is_damaged_here_is_taken_again_where_all_is_compared(
    machine: Machine,
) -> None:
    first = machine("first")
    bundle = promote(first, b"one").bundle
    (first.bundles / bundle / "files" / "model.txt").write_bytes(b"x")
    first.compare()
    assert champion(first) == b"one"


def test_a_line_whose_bundle_is_not_whole_here_is_not_sent(machine: Machine, tmp_path: Path) -> None:
    alone = machine("first").copy
    bundle = promote(alone, b"one").bundle
    shutil.rmtree(alone.bundles / bundle)
    with pytest.raises(PlatformError, match=rf"{bundle}/bundle\.json cannot be sent"):
        machine("first").pull()
    assert objects(tmp_path) == set()


def test_a_bundle_that_names_files_outside_of_its_folder_is_not_taken(
    machine: Machine, tmp_path: Path
) -> None:
    import hashlib

    evil = b"not mine to write"
    text = json.dumps({"files": {"../../../out.txt": hashlib.sha256(evil).hexdigest()}}).encode()
    digest = hashlib.sha256(text).hexdigest()
    store = FolderStore(tmp_path / "store")
    store.create(f"bundles/{digest}/bundle.json", text)
    (tmp_path / "out.txt").write_bytes(evil)
    store.create("out.txt", evil)
    line = Line(AT, "test", "promote", USE, "", None, Served("trees", "2026-01-07", "v", "r", digest))
    store.create("promotions/00000001.json", json.dumps({"line": line.as_json(), "nonce": ""}).encode())
    with pytest.raises(PlatformError, match="not what was promoted"):
        machine("a/b/second").pull()
    assert not (tmp_path / "a" / "b" / "out.txt").exists()


def test_the_profile_says_whether_a_registry_is_shared(tmp_path: Path) -> None:
    alone = RegistryPlace.of(Settings(home=tmp_path, bucket_url="s3://b/p"))
    assert (alone.is_shared, alone.store, alone.pull()) == (False, None, 0)
    place = RegistryPlace.of(Settings(home=tmp_path, profile="server", bucket_url="s3://b/p"))
    assert place.is_shared
    assert place.store is not None
    assert place.store.root == "s3://b/p/registry"
    with pytest.raises(PlatformError, match="set MY_PLATFORM_BUCKET_URL"):
        RegistryPlace.of(Settings(home=tmp_path, profile="cluster")).pull()
