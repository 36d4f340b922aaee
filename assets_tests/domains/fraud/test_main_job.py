"""The main job on a small simulation: from landed files to models and reports, in real Dagster runs."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from assets_tests.homes import Versions, day, days, folder_in_memory, land, session
from my_platform.domains.fraud.features import customer_spending, joined, terminal_risk, usual_spending
from my_platform.domains.fraud.landing_files import reports_path, transactions_path
from my_platform.domains.fraud.models import FEATURES
from my_platform.domains.fraud.parameters import TRAINING_WINDOW_DAYS
from my_platform.domains.fraud.simulator import land_correction, land_late_labels
from my_platform.features.offline import compute
from my_platform.learning.fitting import fit_lightgbm
from my_platform.learning.tracking import Tracker
from my_platform.operations.refresh import Report
from my_platform.operations.session import Session
from my_platform.storage.lake import file_in, json_in

LAST = 48
BAD_DAY, UNKNOWN_DAY, LATE_DAY = 20, 15, 34
STEPS = ("raw", "validated", "profiles", "checks")
WITHOUT_DAYS = [
    *(f"{step}/{table}" for table in ("customers", "terminals") for step in STEPS),
    *("known_customers", "known_terminals"),
]
OF_TRANSACTIONS = [
    *(f"{step}/transactions" for step in STEPS),
    "unknown_customers",
    "unknown_terminals",
    "customer_spending",
    "usual_spending",
    "terminal_risk",
    "marts/daily_volume_by_segment",
]
OF_REPORTS = [
    *(f"{step}/fraud_reports" for step in STEPS),
    "labelled_transactions",
    "marts/daily_fraud_by_segment",
    "marts/daily_fraud_by_terminal",
]
EXPECTED = {
    **{name: [""] for name in WITHOUT_DAYS},
    **{name: days(0, LAST) for name in OF_TRANSACTIONS},
    **{name: days(7, LAST) for name in OF_REPORTS},
    # A week is trained from seven days of features on that end a week before it, tested once its own days are
    # there, and judged once their labels are.
    "training_set": days(14, LAST + 1, 7),
    "training_set_replay": days(14, LAST + 1, 7),
    "fraud_lightgbm": days(14, LAST + 1, 7),
    "fraud_lightgbm_onnx": days(14, LAST + 1, 7),
    "predictions": days(14, LAST - 6, 7),
    "test_set": days(14, LAST - 13, 7),
    "evaluation": days(14, LAST - 13, 7),
}
# What the scoring service logs, what a champion scores, kinds of frauds: none is in this home, nothing waits for it.
OPTIONAL = [
    *(f"{step}/fraud_scenarios" for step in STEPS),
    *(f"{step}/scored_requests" for step in STEPS),
    "training_serving_skew",
    "scored_transactions",
    "serving_monitor",
]


class Built:
    """A home after its first refresh."""

    def __init__(self, home: Path, opened: Session, report: Report) -> None:
        self.home = home
        self.session = opened
        self.report = report
        self.versions: Versions = opened.versions()

    def table(self, asset: str, partition: str = "") -> pl.DataFrame:
        return self.session.workspace.lake.read(asset, partition, self.versions[asset][partition])

    def whole(self, asset: str) -> pl.DataFrame:
        return pl.concat([self.table(asset, partition) for partition in self.versions[asset]])


def rewritten(path: Path, frame: pl.DataFrame) -> None:
    staged = path.with_name(f".{path.name}")
    frame.write_parquet(staged)
    staged.replace(path)


def land_what_happens(landing: Path) -> None:
    """49 days, with rows that break a contract, a report without a transaction, and labels that come late."""
    land(landing, LAST + 1, customers=150, terminals=300)
    bad = transactions_path(landing, date.fromisoformat(day(BAD_DAY)))
    frame = pl.read_parquet(bad)
    amounts = frame["TX_AMOUNT"].to_list()
    amounts[3], amounts[5] = -1.0, float("nan")
    rewritten(bad, frame.with_columns(TX_AMOUNT=pl.Series(amounts)))
    unknown = reports_path(landing, date.fromisoformat(day(UNKNOWN_DAY)))
    reports = pl.read_parquet(unknown)
    strange = reports.tail(1).with_columns(TRANSACTION_ID=pl.lit(10**9, pl.Int64))
    rewritten(unknown, pl.concat([reports, strange]))
    land_late_labels(landing, date.fromisoformat(day(LATE_DAY)), 0.5, delay_days=3)


@pytest.fixture(scope="module")
def built() -> Iterator[Built]:
    with folder_in_memory() as folder:
        land_what_happens(folder / "home" / "landing")
        with session(folder / "home") as opened:
            yield Built(folder / "home", opened, opened.refresh())


def test_one_run_computes_every_partition_that_can_be_computed(built: Built) -> None:
    assert built.report.outcome.failed == {}
    assert built.report.as_json()["computed"] == {name: EXPECTED[name] for name in sorted(EXPECTED)}
    found = {name: list(versions) for name, versions in built.versions.items() if versions}
    assert found == built.report.as_json()["computed"]
    assert sorted(built.versions.keys() - found.keys()) == sorted(OPTIONAL)
    assert built.report.runs == 1


def test_each_partition_is_a_materialization_of_that_run_with_its_own_version(built: Built) -> None:
    (run,) = built.session.instance.get_runs()
    assert run.status == dg.DagsterRunStatus.SUCCESS
    for name, partitions in built.versions.items():
        if not partitions:
            continue
        found = built.session.instance.fetch_materializations(
            dg.AssetRecordsFilter(dg.AssetKey(name.split("/"))), limit=1000
        ).records
        assert {record.partition_key or "": record.run_id for record in found} == dict.fromkeys(
            partitions, run.run_id
        )
        tags = {r.partition_key or "": (r.asset_materialization.tags or {}) for r in found}  # type: ignore[union-attr]
        assert {key: tag["dagster/data_version"] for key, tag in tags.items()} == partitions


@pytest.mark.parametrize("table", ["transactions", "fraud_reports"])
def test_landed_rows_are_valid_or_in_quarantine(built: Built, table: str) -> None:
    name = f"validated/{table}"
    quarantined = built.session.quarantined(name, None).get(name, {})
    landed = {path.stem: pl.read_parquet(path) for path in (built.home / "landing" / table).glob("*.parquet")}
    assert sorted(landed) == sorted(built.versions[name])
    for key, frame in landed.items():
        assert frame.height == built.table(name, key).height + len(quarantined.get(key, []))
    if table == "transactions":
        assert {key: len(rows) for key, rows in quarantined.items()} == {day(BAD_DAY): 2}


def test_reports_are_labels_or_in_quarantine(built: Built) -> None:
    quarantined = built.session.quarantined("labelled_transactions", None)["labelled_transactions"]
    for key in built.versions["labelled_transactions"]:
        reports = built.table("validated/fraud_reports", key).height
        labels = built.table("labelled_transactions", key).height
        assert reports == labels + len(quarantined.get(key, []))
    assert 10**9 in {row["TRANSACTION_ID"] for row in quarantined[day(UNKNOWN_DAY)]}


def test_no_feature_changes_when_what_came_later_is_removed(built: Built) -> None:
    transactions = built.whole("validated/transactions")
    reports = built.whole("labelled_transactions")
    spending = built.whole("customer_spending")
    features = joined(
        *(built.whole(name).lazy() for name in ("customer_spending", "usual_spending", "terminal_risk"))
    ).collect()
    assert features.height == transactions.height
    for row in transactions.sample(40, seed=1).to_dicts():
        now, number = pl.lit(row["TX_DATETIME"]), row["TRANSACTION_ID"]
        past = transactions.filter(
            (pl.col("TX_DATETIME") < now)
            | ((pl.col("TX_DATETIME") == now) & (pl.col("TRANSACTION_ID") <= number))
        )
        known = reports.filter(pl.col("REPORTED_AT") <= now)
        here = past.filter(pl.col("TRANSACTION_ID") == number)
        spent = spending.join(past, on="TRANSACTION_ID", how="semi")
        replayed = {
            **compute(customer_spending, here, past).row(0, named=True),
            **compute(usual_spending, spent.filter(pl.col("TRANSACTION_ID") == number), spent).row(
                0, named=True
            ),
            **compute(terminal_risk, here, known).row(0, named=True),
        }
        stored = features.filter(pl.col("TRANSACTION_ID") == number).row(0, named=True)
        assert {name: stored[name] for name in replayed} == replayed
        assert set(FEATURES) < set(replayed)


def test_a_training_set_holds_no_row_and_no_label_that_was_not_known(built: Built) -> None:
    reports = built.whole("validated/fraud_reports")
    transactions = built.whole("validated/transactions").select("TRANSACTION_ID", "TX_DATETIME")
    for week in built.versions["training_set"]:
        t0 = datetime.fromisoformat(week)
        rows = built.table("training_set", week)
        assert rows["TX_DATETIME"].max() < t0 - timedelta(days=7)
        known = reports.filter(pl.col("REPORTED_AT") < t0)
        labelled = rows.join(known, on="TRANSACTION_ID", how="inner", suffix="_REPORTED")
        assert labelled.height == rows.height
        assert (labelled["IS_FRAUD"] == labelled["IS_FRAUD_REPORTED"]).all()
        window = pl.col("TX_DATETIME").is_between(
            t0 - timedelta(days=7 + TRAINING_WINDOW_DAYS), t0 - timedelta(days=7), "left"
        )
        assert transactions.filter(window).join(known, on="TRANSACTION_ID", how="semi").height == rows.height


def test_a_label_that_came_late_is_missing_from_its_week_and_there_in_the_next(built: Built) -> None:
    late = pl.read_parquet(
        reports_path(built.home / "landing", date.fromisoformat(day(LATE_DAY + 3)))
    ).filter(pl.col("TRANSACTION_ID").is_in(_ids_of(built, LATE_DAY - 7).implode()))
    assert late.height > 0
    week, next_week = day(LATE_DAY + 1), day(LATE_DAY + 8)
    assert late.join(built.table("training_set", week), on="TRANSACTION_ID", how="semi").is_empty()
    assert late.join(built.table("training_set", next_week), on="TRANSACTION_ID", how="anti").is_empty()


def _ids_of(built: Built, number: int) -> pl.Series:
    return built.table("validated/transactions", day(number))["TRANSACTION_ID"]


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_rows_give_the_same_model(built: Built, threads: int) -> None:
    week = max(built.versions["fraud_lightgbm"])
    bundle = built.table("fraud_lightgbm", week)
    about = json_in(bundle, "about.json")
    rows = built.table("training_set", week)
    again = fit_lightgbm(
        rows.select(about["features"]),
        rows["IS_FRAUD"].to_numpy(),
        about["lightgbm"],
        about["rounds"],
        about["seed"],
        threads,
    )
    assert again.encode() == file_in(bundle, "model.txt")
    assert about["training_set"] == built.versions["training_set"][week]


def test_each_model_is_one_mlflow_run_that_names_what_it_was_fitted_on(built: Built) -> None:
    client = Tracker(built.home / "mlflow").client
    experiment = client.get_experiment_by_name("fraud_lightgbm")
    assert experiment is not None
    runs = {run.data.tags["week"]: run for run in client.search_runs([experiment.experiment_id])}
    assert len(client.search_runs([experiment.experiment_id])) == len(runs)
    models = built.versions["fraud_lightgbm"]
    assert {week: run.data.tags["data_version"] for week, run in runs.items()} == models
    for week, run in runs.items():
        assert run.info.status == "FINISHED"
        assert run.data.tags["training_set_data_version"] == built.versions["training_set"][week]
        assert ("average_precision" in run.data.metrics) == (week in built.versions["evaluation"])
        folder = Path(run.info.artifact_uri.removeprefix("file://")) / "model"
        assert {file.name for file in folder.iterdir()} == {"model.txt", "about.json", "training_set.json"}
        assert (folder / "model.txt").read_bytes() == file_in(
            built.table("fraud_lightgbm", week), "model.txt"
        )
        manifest = json.loads((folder / "training_set.json").read_bytes())
        assert manifest == _inputs_of_training(built, week)
        rows = sorted((a, k, v) for a, found in manifest.items() for k, v in found.items())
        digest = hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()
        assert run.data.tags["training_set_digest"] == digest


def test_the_course_of_a_fit_is_in_mlflow_and_its_end_on_the_event(built: Built) -> None:
    week = max(built.versions["fraud_lightgbm"])
    version = built.versions["fraud_lightgbm"][week]
    record = built.session.workspace.lake.record("fraud_lightgbm", week, version)
    assert record is not None
    history = record["notes"]["history"]
    # What the last digits of its floats may hang on is in no data version.
    assert "history" not in json_in(built.table("fraud_lightgbm", week), "about.json")
    assert len(history) == 8
    tracker = Tracker(built.home / "mlflow")
    run = tracker.find("fraud_lightgbm", version)
    assert run is not None
    for name in ("sample_log_loss", "sample_average_precision"):
        told = tracker.client.get_metric_history(run.info.run_id, name)
        assert [(each.step, each.value) for each in told] == [(line["round"], line[name]) for line in history]
    records = built.session.instance.fetch_materializations(dg.AssetKey("fraud_lightgbm"), limit=1).records
    event = records[0].asset_materialization
    assert event is not None
    assert event.metadata["sample_log_loss"].value == history[-1]["sample_log_loss"]
    assert history[-1]["sample_log_loss"] < history[0]["sample_log_loss"]


def test_the_ui_links_each_model_to_its_mlflow_run_and_each_evaluation_to_its_report(built: Built) -> None:
    def shown(asset: str) -> dict[str, Any]:
        records = built.session.instance.fetch_materializations(dg.AssetKey(asset), limit=1).records
        assert records[0].asset_materialization is not None
        return {name: found.value for name, found in records[0].asset_materialization.metadata.items()}

    model, evaluation = shown("fraud_lightgbm"), shown("evaluation")
    run = Tracker(built.home / "mlflow").client.get_run(str(model["mlflow_run"]))
    page = f"http://127.0.0.1:5000/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    assert model["mlflow_url"] == page
    assert evaluation["report_url"] == Path(str(evaluation["report"])).as_uri()
    assert Path(str(evaluation["report"])).is_file()


def _inputs_of_training(built: Built, week: str) -> dict[str, dict[str, str]]:
    t0 = date.fromisoformat(week)
    windows = dict.fromkeys(("customer_spending", "usual_spending", "terminal_risk"), 8)
    windows["validated/fraud_reports"] = 1
    return {
        asset: {
            key: version
            for key, version in built.versions[asset].items()
            if t0 - timedelta(days=7 + TRAINING_WINDOW_DAYS)
            <= date.fromisoformat(key)
            <= t0 - timedelta(days=last)
        }
        for asset, last in windows.items()
    }


def test_no_pickle_lies_under_the_home(built: Built) -> None:
    files = [path for path in built.home.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if path.suffix in (".pkl", ".pickle", ".joblib", ".pt", ".npy")]
    assert not [path for path in files if path.read_bytes()[:2] in (b"\x80\x02", b"\x80\x04", b"\x80\x05")]


def test_each_judged_week_has_a_report_and_its_figures(built: Built) -> None:
    reports = {
        path.stem: path for path in (built.home / "reports" / "fraud" / "fraud_lightgbm").glob("*.html")
    }
    assert sorted(reports) == sorted(built.versions["evaluation"])
    for week, path in reports.items():
        assert path.read_bytes() == file_in(built.table("evaluation", week), "report.html")
        figures = built.session.evaluation(week)
        assert figures["week"] == week
        assert figures["model_version"] == built.versions["fraud_lightgbm"][week]
        assert set(figures["metrics"]) == {"auc_roc", "average_precision", "precision_at_100"}
        assert all(0 <= value <= 1 for value in figures["metrics"].values())
        assert figures["train"]["rows"] == built.table("training_set", week).height
        assert figures["train"]["to"] < week <= figures["test"]["from"] <= figures["test"]["to"]
        assert figures["models"] == {"fraud_lightgbm": figures["metrics"]}
        assert figures["benchmark"]["test_rows"] == figures["test"]["rows"] > 0
    assert built.session.evaluation(None)["week"] == max(reports)


def test_the_marts_count_what_has_landed(built: Built) -> None:
    volume = built.whole("marts/daily_volume_by_segment")
    assert volume["transactions"].sum() == built.whole("validated/transactions").height
    for name in ("marts/daily_fraud_by_segment", "marts/daily_fraud_by_terminal"):
        found, labels = built.whole(name), built.whole("labelled_transactions")
        assert (found["labelled"].sum(), found["frauds"].sum()) == (labels.height, labels["IS_FRAUD"].sum())


def test_every_check_is_told_of_every_partition(built: Built) -> None:
    every = built.session.workspace.project.assets
    assets = {name: asset for name, asset in every.items() if name not in OPTIONAL}
    checks = {(c.about or name, c.name) for name, asset in assets.items() for c in asset.own_checks}
    assert {asset for asset, _ in checks} == {
        *(name for name in EXPECTED if name.startswith(("raw/", "validated/", "marts/"))),
        "training_set",
        "fraud_lightgbm_onnx",
        "predictions",
    }
    for asset, check in checks:
        key = dg.AssetCheckKey(dg.AssetKey(asset.split("/")), check)
        infos = built.session.instance.event_log_storage.get_asset_check_partition_info([key])
        told = {
            info.partition_key or "": info.latest_execution_status.value for info in infos if info.is_current
        }
        expected = dict.fromkeys(EXPECTED[asset], "SUCCEEDED")
        if (asset, check) == ("validated/fraud_reports", "volume"):
            # Half of a day's labels came three days later.
            expected |= {day(LATE_DAY): "FAILED", day(LATE_DAY + 3): "FAILED"}
        assert told == expected, (asset, check)


def test_a_week_of_one_class_fits_no_model(built: Built) -> None:
    week, other = EXPECTED["training_set"][0], EXPECTED["training_set"][1]
    with folder_in_memory() as folder:
        shutil.copytree(built.home, folder / "home")
        for number in range(7, 14):
            path = reports_path(folder / "home" / "landing", date.fromisoformat(day(number)))
            rewritten(path, pl.read_parquet(path).with_columns(IS_FRAUD=pl.lit(False)))
        with session(folder / "home") as opened:
            chain = (
                "raw/fraud_reports",
                "validated/fraud_reports",
                "training_set",
                "training_set_replay",
                "fraud_lightgbm",
            )
            done = opened.refresh(select=" or ".join(f'key:"{name}"' for name in chain)).as_json()
            after = opened.versions()
            (found,) = opened.instance.event_log_storage.get_asset_check_execution_history(
                dg.AssetCheckKey(dg.AssetKey("training_set"), "labels_complete"),
                limit=1,
                status={AssetCheckExecutionRecordStatus.FAILED},
            )

    assert list(done["failed"]) == ["training_set"]
    assert (
        "labels_complete: column IS_FRAUD: expected rows of both labels"
        in done["failed"]["training_set"][week]
    )
    assert week not in done["computed"].get("fraud_lightgbm", [])
    assert after["fraud_lightgbm"][week] == built.versions["fraud_lightgbm"][week]
    assert after["fraud_lightgbm"][other] != built.versions["fraud_lightgbm"][other]
    assert found.partition == week


def test_every_asset_says_what_it_is(built: Built) -> None:
    graph = built.session.definitions.resolve_asset_graph()
    keys = {key.to_user_string(): key for key in graph.get_all_asset_keys()}
    assert sorted(keys) == sorted([*EXPECTED, *OPTIONAL])
    for name, key in keys.items():
        node = graph.get(key)
        assert node.description, name
        assert node.owners, name
        assert node.kinds, name
        assert node.group_name not in (None, "default"), name
        columns = node.metadata["dagster/column_schema"].columns
        named = [column.name for column in columns]
        if name in EXPECTED:
            stored = built.table(name, EXPECTED[name][-1])
            assert named == stored.columns, name
            assert [column.type for column in columns] == [str(kind) for kind in stored.dtypes], name
        assert all(column.description for column in columns), name
        # A profile has a row for each column of its table, checks one for each result.
        if name != "training_set_replay" and not name.startswith(("profiles/", "checks/")):
            lineage = node.metadata["dagster/column_lineage"].column_lineage
            assert set(lineage.deps_by_column) == set(named), name


def test_a_broken_day_leaves_the_last_good_version_and_heals(built: Built) -> None:
    broken_day, corrected_day = day(45), day(43)
    with folder_in_memory() as folder:
        shutil.copytree(built.home, folder / "home")
        landing = folder / "home" / "landing"
        path = transactions_path(landing, date.fromisoformat(broken_day))
        good = pl.read_parquet(path)
        path.write_bytes(b"cut off")
        land_correction(landing, date.fromisoformat(corrected_day))
        with session(folder / "home") as opened:
            broken = opened.refresh().as_json()
            after = opened.versions()
            assert list(broken["failed"]) == ["raw/transactions"]
            assert str(path) in broken["failed"]["raw/transactions"][broken_day]
            assert after["raw/transactions"][broken_day] == built.versions["raw/transactions"][broken_day]
            assert broken["computed"]["raw/transactions"] == [corrected_day]
            assert broken["computed"]["customer_spending"] == days(43, LAST)
            assert sorted(after) == sorted(built.versions)

            again = opened.refresh().as_json()
            assert (again["failed"], again["computed"], again["runs"]) == (broken["failed"], {}, 0)

            rewritten(path, good)
            healed = opened.refresh().as_json()
            # The run tells that the day's file is as it should be again.
            assert (healed["failed"], healed["computed"], healed["runs"]) == ({}, {}, 1)
            assert opened.refresh().runs == 0
            rewritten(path, good.with_columns(pl.col("TX_AMOUNT") + 1))
            moved = opened.refresh().as_json()
            assert moved["failed"] == {}
            assert moved["computed"]["raw/transactions"] == [broken_day]
            assert moved["computed"]["customer_spending"] == days(45, LAST)


def test_days_one_after_the_other_give_what_all_days_at_once_gave(built: Built) -> None:
    tables = ("raw/transactions", "raw/fraud_reports", "validated/transactions", "validated/fraud_reports")
    daily = [*tables, "labelled_transactions", "customer_spending", "usual_spending", "terminal_risk"]
    with folder_in_memory() as folder:
        settings: dict[str, Any] = {"landing_url": str(built.home / "landing")}
        with session(folder / "home", **settings) as opened:
            select = " or ".join(f'key:"{name}"' for name in daily)
            for first, last in ((0, 20), (21, 21), (22, 23), (24, LAST)):
                opened.refresh(
                    select=select, first=date.fromisoformat(day(first)), through=date.fromisoformat(day(last))
                )
            found = {name: keys for name, keys in opened.versions().items() if keys}
            assert found == {name: built.versions[name] for name in sorted(daily)}
            assert opened.refresh(select=select).as_json()["computed"] == {}
