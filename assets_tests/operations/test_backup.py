"""A backup of a home that is in use is a home: nothing is owed in it, and the same model serves."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

import dagster as dg
import pytest

from assets_tests.homes import answer, start
from assets_tests.operations import served_shop, shop
from my_platform.errors import HomeError, PlatformError
from my_platform.learning.bundle import read_bundle
from my_platform.learning.ledger import PromotionLedger
from my_platform.learning.tracking import Tracker
from my_platform.operations.backup import back_up, latest_of, manifest_of
from my_platform.operations.home import open_instance
from my_platform.operations.restore import pack, restore
from my_platform.operations.session import opened


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return served_shop.make(tmp_path_factory.mktemp("original") / "home")


@pytest.fixture
def home(original: Path, tmp_path: Path) -> Path:
    return shutil.copytree(original, tmp_path / "home")


def runs(home: Path) -> int:
    with open_instance(shop.settings(home)) as instance:
        return instance.get_runs_count()


def versions(home: Path) -> dict[str, dict[str, str]]:
    with opened(shop.settings(home)) as session:
        return session.versions()


def owed(home: Path) -> tuple[dict[str, list[str]], int]:
    """What a refresh computes, and how many runs it launches."""
    before = runs(home)
    with opened(shop.settings(home)) as session:
        report = session.refresh()
    assert report.problems == []
    return report.outcome.computed, runs(home) - before


def champion(home: Path) -> bytes:
    """The model file that serves."""
    served = PromotionLedger(home / "registry" / "promotions.jsonl").standing("shop").champion
    assert served is not None
    return read_bundle(home / "registry" / "bundles", served.bundle).files["model.txt"]


def test_a_restored_home_owes_nothing_and_has_the_same_champion(home: Path, tmp_path: Path) -> None:
    back_up(shop.settings(home), tmp_path / "kept")

    restore(shop.settings(tmp_path / "again"), tmp_path / "kept")

    shutil.rmtree(home)
    assert owed(tmp_path / "again") == ({}, 0)
    assert champion(tmp_path / "again") == b"trees"
    shop.land(tmp_path / "again", shop.FIRST, extra_cents=1)
    computed, _ = owed(tmp_path / "again")
    assert {asset: len(keys) for asset, keys in computed.items()} == {
        "raw/orders": 1,
        "validated/orders": 1,
        "shop_week": served_shop.DAYS,
    }


def test_the_commands_make_a_file_and_a_home_of_it(home: Path, tmp_path: Path) -> None:
    given = {"domains": "assets_tests.operations.shop"}
    kept = str(tmp_path / "kept.tar")

    made = answer(start(home, "backup", kept, "--json", **given))
    again = answer(start(tmp_path / "again", "restore", kept, "--json", **given))

    assert made["files"] == again["files"] > 10
    assert made["elsewhere"] == {}
    assert versions(tmp_path / "again") == versions(home)
    assert owed(tmp_path / "again") == ({}, 0)
    with pytest.raises(PlatformError, match="there already"):
        pack(shop.settings(home), tmp_path / "kept.tar")


def test_backups_while_a_refresh_runs_are_whole_each(tmp_path: Path) -> None:
    home = tmp_path / "home"
    shop.land_days(home, 40)
    writer = subprocess.Popen(
        [sys.executable, "-c", _REFRESH_AGAIN_AND_AGAIN, str(home)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    made = []
    for said in writer.stdout:
        made.append((said.strip(), back_up(shop.settings(home), tmp_path / "kept").place))
    assert writer.wait(timeout=60) == 0
    expected = versions(home)

    assert len(made) > 3
    for number, (_, place) in enumerate(made[:: len(made) // 3]):
        again = tmp_path / f"again{number}"
        restore(shop.settings(again), place)
        with opened(shop.settings(again)) as session:
            heads = session.heads.read(list(session.workspace.project.assets))
            # No event names a value that is not there.
            assert {a: dict(k) for a, k in heads.items() if k} == {
                a: k for a, k in session.versions().items() if k
            }
            session.refresh()
            shop.land_days(again, 40)
            session.refresh()
            assert session.versions() == expected


# Values come, go back and come again, so that events are about all kinds of objects.
_REFRESH_AGAIN_AND_AGAIN = """
import sys
from datetime import timedelta
from pathlib import Path
from assets_tests.operations import shop
from my_platform.operations.session import opened

home = Path(sys.argv[1])
with opened(shop.settings(home)) as session:
    for extra in (0, 1, 2, 0):
        shop.land(home, shop.FIRST + timedelta(days=5), extra_cents=extra)
        told = []
        def tell(asset, key, kind):
            if not told or asset != told[-1]:
                told.append(asset)
                print(asset, key, flush=True)
        session.refresh(on_partition=tell)
"""


def test_a_second_backup_links_to_what_cannot_change(home: Path, tmp_path: Path) -> None:
    first = back_up(shop.settings(home), tmp_path / "kept")
    shop.land(home, shop.FIRST + timedelta(days=served_shop.DAYS))
    owed(home)

    second = back_up(shop.settings(home), tmp_path / "kept")

    objects = [name for name in manifest_of(first.place) if name.startswith(("lake/raw", "landing/"))]
    for name in objects:
        assert os.path.samefile(first.place / "home" / name, second.place / "home" / name)
    assert second.linked >= len(objects) == 2 * served_shop.DAYS
    assert latest_of(tmp_path / "kept") == second.place
    restore(shop.settings(tmp_path / "then"), first.place)
    restore(shop.settings(tmp_path / "now"), tmp_path / "kept")
    assert len(versions(tmp_path / "then")["raw/orders"]) == served_shop.DAYS
    assert len(versions(tmp_path / "now")["raw/orders"]) == served_shop.DAYS + 1


def test_a_landed_file_that_changed_is_copied_anew(home: Path, tmp_path: Path) -> None:
    back_up(shop.settings(home), tmp_path / "kept")
    landed = shop.land(home, shop.FIRST, extra_cents=7)

    again = back_up(shop.settings(home), tmp_path / "kept")

    assert (again.place / "home" / landed.relative_to(home)).read_bytes() == landed.read_bytes()


@pytest.mark.parametrize("harm", ["flipped", "missing", "no manifest"])
def test_a_backup_that_is_not_what_was_made_is_refused_and_leaves_no_home(
    home: Path, tmp_path: Path, harm: str
) -> None:
    place = back_up(shop.settings(home), tmp_path / "kept").place
    victim = next((place / "home" / "lake").rglob("*.parquet"))
    if harm == "flipped":
        data = bytearray(victim.read_bytes())
        data[50] ^= 1
        victim.write_bytes(data)
    elif harm == "missing":
        victim.unlink()
    else:
        (place / "manifest.json").unlink()

    with pytest.raises(PlatformError, match="no whole backup" if harm == "no manifest" else victim.name):
        restore(shop.settings(tmp_path / "again"), place)

    assert [path.name for path in tmp_path.iterdir() if "again" in path.name] == []


def test_a_file_that_was_cut_short_is_refused(home: Path, tmp_path: Path) -> None:
    pack(shop.settings(home), tmp_path / "kept.tar")
    os.truncate(tmp_path / "kept.tar", 100_000)

    with pytest.raises(PlatformError, match=r"kept\.tar"):
        restore(shop.settings(tmp_path / "again"), tmp_path / "kept.tar")

    assert not (tmp_path / "again").exists()


def test_a_home_that_is_in_use_is_not_written_over(home: Path, tmp_path: Path) -> None:
    back_up(shop.settings(home), tmp_path / "kept")
    before = sorted(home.rglob("*"))

    with pytest.raises(HomeError, match="not empty"):
        restore(shop.settings(home), tmp_path / "kept")

    assert sorted(home.rglob("*")) == before
    (tmp_path / "empty").mkdir()
    restore(shop.settings(tmp_path / "empty"), tmp_path / "kept")
    assert champion(tmp_path / "empty") == b"trees"


def test_a_backup_that_was_killed_is_none(home: Path, tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from assets_tests.operations import shop\n"
        "from my_platform.operations import backup\n"
        "backup._copy_database = lambda *_: os._exit(9)\n"
        "backup.back_up(shop.settings(Path(sys.argv[1])), Path(sys.argv[2]))"
    )
    done = subprocess.run([sys.executable, "-c", script, str(home), str(tmp_path / "kept")], check=False)
    assert done.returncode == 9
    assert latest_of(tmp_path / "kept") is None

    back_up(shop.settings(home), tmp_path / "kept")

    restore(shop.settings(tmp_path / "again"), tmp_path / "kept")
    assert versions(tmp_path / "again") == versions(home)


def test_what_lies_elsewhere_is_named(home: Path, tmp_path: Path) -> None:
    settings = shop.settings(home, landing_url="s3://bucket/landing", lake_url=str(tmp_path / "lake"))

    done = back_up(settings, tmp_path / "kept")

    assert done.elsewhere == {"landing": "s3://bucket/landing", "lake": str(tmp_path / "lake")}
    assert json.loads((done.place / "manifest.json").read_bytes())["elsewhere"] == done.elsewhere


def test_a_linked_folder_and_a_database_server_are_named_as_lying_elsewhere(
    home: Path, tmp_path: Path
) -> None:
    (home / "lake").rename(tmp_path / "big")
    (home / "lake").symlink_to(tmp_path / "big")
    with (home / "dagster" / "dagster.yaml").open("a") as config:
        config.write("storage:\n  postgres:\n    postgres_url: {env: SHOP_EVENTS}\n")

    found = back_up(shop.settings(home), tmp_path / "kept")

    assert found.elsewhere["runs and events"] == "postgres, as dagster/dagster.yaml says"
    assert Path(found.elsewhere["lake"]).resolve() == (tmp_path / "big").resolve()


def test_a_bundle_that_was_damaged_and_healed_is_copied_anew(home: Path, tmp_path: Path) -> None:
    (model,) = (home / "registry" / "bundles").rglob("model.txt")
    whole = model.read_bytes()
    model.write_bytes(whole[:-1] + b"?")
    back_up(shop.settings(home), tmp_path / "kept")
    model.write_bytes(whole)
    os.utime(model, ns=(model.stat().st_mtime_ns + 1, model.stat().st_mtime_ns + 1))

    back_up(shop.settings(home), tmp_path / "kept")

    restore(shop.settings(tmp_path / "again"), tmp_path / "kept")
    assert champion(tmp_path / "again") == b"trees"


def test_no_backup_goes_into_the_home_or_comes_from_nowhere(home: Path, tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match="elsewhere"):
        back_up(shop.settings(home), home / "kept")
    with pytest.raises(HomeError, match="is no home"):
        back_up(shop.settings(tmp_path / "none"), tmp_path / "kept")
    with pytest.raises(PlatformError, match="no whole backup"):
        restore(shop.settings(tmp_path / "again"), tmp_path / "kept")


def test_what_was_under_way_has_failed_in_the_restored_home(home: Path, tmp_path: Path) -> None:
    @dg.job
    def some_job() -> None:
        """A job of nothing."""

    with open_instance(shop.settings(home)) as instance:
        run = instance.create_run_for_job(some_job, status=dg.DagsterRunStatus.STARTED)
    back_up(shop.settings(home), tmp_path / "kept")

    restore(shop.settings(tmp_path / "again"), tmp_path / "kept")

    for place, status in (
        (home, dg.DagsterRunStatus.STARTED),
        (tmp_path / "again", dg.DagsterRunStatus.FAILURE),
    ):
        with open_instance(shop.settings(place)) as instance:
            found = instance.get_run_by_id(run.run_id)
            assert found is not None
            assert found.status is status


def test_mlflow_finds_its_files_in_the_restored_home(home: Path, tmp_path: Path) -> None:
    tracker = Tracker(home / "mlflow")
    made = tracker.client.create_experiment(
        "fits", artifact_location=(home / "mlflow" / "artifacts").as_uri()
    )
    run_id = tracker.client.create_run(made).info.run_id
    tracker.client.log_text(run_id, "trees", "model/model.txt")
    back_up(shop.settings(home), tmp_path / "kept")
    shutil.rmtree(home)

    restore(shop.settings(tmp_path / "again and so on"), tmp_path / "kept")

    run = Tracker(tmp_path / "again and so on" / "mlflow").client.get_run(run_id)
    place = Path(unquote(urlsplit(run.info.artifact_uri).path))
    assert place.is_relative_to(tmp_path / "again and so on")
    assert (place / "model" / "model.txt").read_text() == "trees"


def test_a_torn_last_line_and_half_written_files_stay_behind(home: Path, tmp_path: Path) -> None:
    with open(home / "registry" / "promotions.jsonl", "ab") as file:
        file.write(b'{"half')
    (home / "registry" / ".x.json.tmp-1@elsewhere-00000000").write_bytes(b"half")

    place = back_up(shop.settings(home), tmp_path / "kept").place

    assert (place / "home" / "registry" / "promotions.jsonl").read_bytes().endswith(b"}\n")
    assert [name for name in manifest_of(place) if ".tmp-" in name or name.endswith((".lock", "-wal"))] == []
    for name in manifest_of(place):
        if name.endswith((".db", ".sqlite")):
            with closing(sqlite3.connect(place / "home" / name)) as database:
                assert database.execute("pragma integrity_check").fetchone() == ("ok",)
