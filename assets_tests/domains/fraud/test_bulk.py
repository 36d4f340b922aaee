"""Bulk scoring: files by the champion, and the daily asset of all transactions, from its promotion on."""

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from typer.testing import CliRunner

from assets_tests import homes
from assets_tests.domains.fraud.conftest import LAST, PROMOTED_AFTER, SERVED, Served
from assets_tests.serving.service_log import table
from my_platform.cli import app
from my_platform.domains.fraud.features import FEATURES, joined
from my_platform.errors import DamagedBundle, PlatformError
from my_platform.incremental.memory import Memory
from my_platform.incremental.parts import Parts, write_part
from my_platform.operations.forecast import why
from my_platform.operations.promotion import promote
from my_platform.operations.session import Session
from my_platform.serving import champion_scores

ASSET = "scored_transactions"
BAD = "CUSTOMER_ID_PAST_SPREAD"


def features(session: Session, day: str) -> pl.DataFrame:
    parts = [
        table(session, name, day).lazy() for name in ("customer_spending", "usual_spending", "terminal_risk")
    ]
    return joined(*parts).collect()


def score(home: Path, source: Path, target: Path, code: int = 0) -> Any:
    words = ["--home", str(home), "score", str(source), "-o", str(target), "--json"]
    done = CliRunner().invoke(app, words, env={"MY_PLATFORM_THREADS": "1"})
    if isinstance(done.exception, PlatformError):
        raise done.exception
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


def test_days_are_scored_from_the_promotion_on_and_never_before_it(served: Served) -> None:
    assert sorted(served.session.versions()[ASSET]) == SERVED


def test_bulk_and_service_give_the_same_probabilities(served: Served) -> None:
    for day in SERVED:
        logged, bulk = (table(served.session, name, day) for name in ("validated/scored_requests", ASSET))
        both = logged.join(bulk, on="TRANSACTION_ID", suffix="_BULK", validate="1:1")
        assert both.height == logged.height == bulk.height
        assert (both["PROBABILITY"] - both["PROBABILITY_BULK"]).abs().max() <= 1e-6
        assert both["BUNDLE"].equals(both["BUNDLE_BULK"].alias("BUNDLE"))


def test_a_promotion_makes_no_day_stale_that_was_scored_before(before: Path) -> None:
    with homes.folder_in_memory() as folder:
        home = folder / "home"
        shutil.copytree(before, home)
        with homes.session(home) as opened:
            scored = opened.versions()[ASSET]
            first = homes.day(PROMOTED_AFTER - 6)
            done = promote(
                opened.models, opened.models.named(f"fraud_lightgbm@{first}"), who="test", why="", forced=True
            )
            assert done.line is not None
            assert done.line.from_day == homes.day(PROMOTED_AFTER + 4)
            assert opened.refresh().runs == 0
            assert opened.versions()[ASSET] == scored
        homes.land(home / "landing", PROMOTED_AFTER + 5, customers=60, terminals=120)
        with homes.session(home) as opened:
            report = opened.refresh(select=f'+key:"{ASSET}"').as_json()
            assert report["computed"][ASSET] == [homes.day(PROMOTED_AFTER + 4)]
            found = table(opened, ASSET, homes.day(PROMOTED_AFTER + 4))
            chain = why(opened.workspace, opened.heads, ASSET, homes.day(PROMOTED_AFTER + 4))
            assert chain["state"] == "fresh"
            assert {"asset": "landing:served/fraud", "partitions": 1, "changed": 0, "files": []} in chain[
                "inputs"
            ]
            assert found["WEEK"].unique().to_list() == [first]


def test_a_day_that_does_not_fit_into_memory_is_scored_in_parts_to_the_same_version(before: Path) -> None:
    landed, found = homes.day(LAST + 1), {}
    for limit in (None, 60_000):
        with homes.folder_in_memory() as folder:
            home = folder / "home"
            shutil.copytree(before, home)
            homes.land(home / "landing", LAST + 2, customers=60, terminals=120)
            with homes.session(home) as opened:
                assert opened.refresh(select="+group:features").problems == []
                opened.workspace.memory = Memory(limit, home / "spill")
                report = opened.refresh(select=f'key:"{ASSET}"')
                assert report.as_json()["computed"] == {ASSET: [landed]}
                record = opened.instance.get_latest_materialization_event(dg.AssetKey(ASSET))
                assert record is not None
                assert record.asset_materialization is not None
                about = {name: value.value for name, value in record.asset_materialization.metadata.items()}
                assert ("parts by TRANSACTION_ID" in str(about.get("computed"))) == (limit is not None)
                found[limit] = [opened.versions()[ASSET], about["bundle"], about["flagged"]]
    assert found[None] == found[60_000]


def test_rows_in_files_are_scored_in_the_batches_of_all_rows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(champion_scores, "ROWS_AT_ONCE", 4)
    numbers = pl.DataFrame({"n": range(23)})
    for sizes in ([23], [1] * 23, [3, 5, 0, 9, 6], [4, 4, 4, 11], [0, 23]):
        ends = list(itertools.accumulate(sizes))
        files = [
            write_part(numbers[end - size : end], tmp_path / f"{len(sizes)}-{at}.arrow")
            for at, (size, end) in enumerate(zip(sizes, ends, strict=True))
        ]
        pieces = list(champion_scores._in_batches(Parts(tuple(files), 23, numbers.schema)))
        assert pl.concat(pieces).equals(numbers)
        assert all(piece.height % 4 == 0 for piece in pieces[:-1])
    empty = Parts((write_part(numbers.clear(), tmp_path / "empty.arrow"),), 0, numbers.schema)
    assert [piece.height for piece in champion_scores._in_batches(empty)] == [0]


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_a_file_is_scored_row_by_row_in_its_order(served: Served, tmp_path: Path, suffix: str) -> None:
    rows = features(served.session, SERVED[0]).sample(fraction=1, shuffle=True, seed=1)
    source = tmp_path / f"rows{suffix}"
    rows.write_parquet(source, row_group_size=20) if suffix == ".parquet" else rows.write_csv(source)
    said = score(served.home, source, tmp_path / "scores.parquet")
    found = pl.read_parquet(tmp_path / "scores.parquet")
    assert (said["rows"], said["scored"], said["quarantined"]) == (rows.height, rows.height, 0)
    assert found["row_number"].to_list() == list(range(rows.height))
    assert found["TRANSACTION_ID"].cast(pl.Int64).to_list() == rows["TRANSACTION_ID"].to_list()
    known = table(served.session, ASSET, SERVED[0]).select("TRANSACTION_ID", "PROBABILITY")
    wanted = rows.select("TRANSACTION_ID").join(known, on="TRANSACTION_ID", maintain_order="left")
    assert found["PROBABILITY"].equals(wanted["PROBABILITY"])


def test_rows_with_values_that_are_no_numbers_go_to_quarantine_with_the_reason(
    served: Served, tmp_path: Path
) -> None:
    rows = features(served.session, SERVED[0]).select(FEATURES)
    texts = rows.with_columns(pl.col(BAD).cast(pl.String)).with_row_index()
    texts = texts.with_columns(
        pl.when(pl.col("index") == 3)
        .then(pl.lit("much"))
        .when(pl.col("index") == 5)
        .then(pl.lit("inf"))
        .otherwise(BAD)
        .alias(BAD)
    ).drop("index")
    texts.write_csv(tmp_path / "rows.csv")
    said = score(served.home, tmp_path / "rows.csv", tmp_path / "scores.parquet", code=1)
    bad = pl.read_parquet(said["quarantine"])
    assert bad.select("row_number", "reason").rows() == [
        (3, f"column {BAD}: not a number"),
        (5, f"column {BAD}: infinite"),
    ]
    good = pl.read_parquet(tmp_path / "scores.parquet")
    assert sorted([*good["row_number"], *bad["row_number"]]) == list(range(rows.height))


def test_a_file_without_a_feature_is_refused_and_leaves_nothing_behind(
    served: Served, tmp_path: Path
) -> None:
    features(served.session, SERVED[0]).drop(BAD).write_parquet(tmp_path / "rows.parquet")
    with pytest.raises(PlatformError, match=f"lacks 1 features of the model: {BAD}"):
        score(served.home, tmp_path / "rows.parquet", tmp_path / "scores.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"]


def test_a_champion_whose_bytes_are_not_those_that_were_promoted_scores_nothing(
    served: Served, tmp_path: Path
) -> None:
    with homes.folder_in_memory() as folder:
        shutil.copytree(served.home / "registry", folder / "home" / "registry")
        (model,) = (folder / "home" / "registry").rglob("model.onnx")
        data = bytearray(model.read_bytes())
        data[len(data) // 2] ^= 1
        model.write_bytes(data)
        features(served.session, SERVED[0]).write_parquet(tmp_path / "rows.parquet")
        with pytest.raises(DamagedBundle, match="not those that were promoted"):
            score(folder / "home", tmp_path / "rows.parquet", tmp_path / "scores.parquet")
