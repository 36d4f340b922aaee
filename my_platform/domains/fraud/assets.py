"""The assets of card fraud, from landed files to evaluation reports."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from my_platform.domains.fraud import contracts, parameters
from my_platform.domains.fraud.blend import blend_assets, load_blend
from my_platform.domains.fraud.bulk import scored_transactions
from my_platform.domains.fraud.evaluation import SCENARIOS, SLICES
from my_platform.domains.fraud.exports import export_asset, fraud_lightgbm_onnx, fraud_tabm_onnx
from my_platform.domains.fraud.features import FEATURES, customer_spending, terminal_risk, usual_spending
from my_platform.domains.fraud.labels import labelled_transactions
from my_platform.domains.fraud.models import load_model, weekly_assets
from my_platform.domains.fraud.monitor import monitor_asset
from my_platform.domains.fraud.publishing import USE, model_publisher
from my_platform.domains.fraud.scored_requests import (
    FEATURE_ASSETS,
    SKEW,
    TABLE,
    WATCH,
    logged_table,
    scored_contract,
    skew_asset,
)
from my_platform.domains.fraud.service import online_forms
from my_platform.domains.fraud.smaller import smaller_assets
from my_platform.domains.fraud.summary import beside_published
from my_platform.domains.fraud.tabm import load_net, tabm_assets
from my_platform.domains.fraud.tabm_tuned import tuned_asset
from my_platform.domains.fraud.tuning import (
    ROUNDS,
    lightgbm_choice,
    lightgbm_parameters,
    lightgbm_tuning,
)
from my_platform.features.assets import feature_asset
from my_platform.incremental.declare import Asset, Column, Grain
from my_platform.learning.contender import Contender, TestColumns
from my_platform.learning.engines import cluster_of, engine_parameters
from my_platform.learning.nets.compute import device_kind
from my_platform.learning.publishing import report_publisher
from my_platform.learning.registry import Registry
from my_platform.marts.assets import mart_assets
from my_platform.marts.docs import write_docs
from my_platform.marts.manifest import load_marts
from my_platform.marts.prepare import current_catalogue, current_manifest, ensure_catalogue
from my_platform.quality.checks import check_table
from my_platform.quality.contracts import Contract
from my_platform.quality.page import page_linker
from my_platform.quality.profiles import profile_table
from my_platform.quality.references import known_keys, unknown_keys
from my_platform.quality.tables import raw_table, validated_table
from my_platform.quality.watch import Watch
from my_platform.serving.log_landing import LoggedTable
from my_platform.serving.monitor_page import monitor_publisher
from my_platform.settings import CHECKOUT, Settings

DBT_PROJECT = CHECKOUT / "dbt"
DBT_TARGET = DBT_PROJECT / "target"


def prepare() -> None:
    """Have dbt parse the marts if their files have changed."""
    ensure_catalogue(DBT_PROJECT, DBT_TARGET)


def document(folder: Path) -> Path:
    """Have dbt document the marts; the page to open."""
    return write_docs(DBT_PROJECT, DBT_TARGET, folder)


def assets(settings: Settings) -> list[Asset]:
    """All assets, with the training window and the number of trees that the settings choose."""
    raw: dict[str, Asset] = {}
    valid: dict[str, Asset] = {}
    keys: dict[str, Asset] = {}
    quality: list[Asset] = []
    link = page_linker(settings.reports)
    for name, contract, grain, watch in _TABLES:
        about = (contract.model.__doc__ or "").rstrip(".")
        raw[name] = raw_table(
            f"raw/{name}",
            contract,
            source=name,
            grain=grain,
            due_h=contracts.DUE_H,
            description=f"{about}, as they landed.",
        )
        references = {}
        for column, other in _REFERENCES.get(name, {}).items():
            known = keys[f"known_{other}"] = known_keys(f"known_{other}", valid[other], column)
            unknown = keys[f"unknown_{other}"] = unknown_keys(f"unknown_{other}", raw[name], column, known)
            references[column] = unknown
        valid[name] = validated_table(
            f"validated/{name}",
            raw[name],
            contract,
            references=references,
            description=f"{about} that keep the contract, sorted.",
        )
        profiles = profile_table(valid[name])
        quality += [profiles, check_table(valid[name], profiles, watch, publish=link)]
    spending = feature_asset(customer_spending, rows=valid["transactions"], events=valid["transactions"])
    usual = feature_asset(usual_spending, rows=spending, events=spending)
    risk = feature_asset(terminal_risk, rows=valid["transactions"], events=labelled_transactions)
    registry = Registry.of(settings)
    choice = lightgbm_choice(settings)
    trees = lightgbm_parameters(settings, choice)
    return [
        *raw.values(),
        *valid.values(),
        *keys.values(),
        *quality,
        labelled_transactions,
        spending,
        usual,
        risk,
        *mart_assets(
            DBT_PROJECT,
            DBT_TARGET,
            load_marts(current_manifest(DBT_PROJECT, DBT_TARGET)),
            current_catalogue(DBT_PROJECT, DBT_TARGET),
        ),
        *weekly_assets(
            features={**spending.columns, **usual.columns, **risk.columns},
            gaps=settings.training_gaps,
            window_days=settings.training_window_days or parameters.TRAINING_WINDOW_DAYS,
            lightgbm={name: value for name, value in trees.items() if name != ROUNDS},
            rounds=trees[ROUNDS],
            chosen_on=tuple(choice.folds) if choice else (),
            seed=parameters.SEED,
            threads=settings.threads,
            engine=engine_parameters(settings),
            cluster=cluster_of(settings),
            publish_model=model_publisher(registry),
            publish_report=report_publisher(settings.reports, registry, USE),
        ),
        export_asset(fraud_lightgbm_onnx, "fraud_lightgbm", kinds=("lightgbm",)),
        *_scenarios(settings),
        *_served(settings, (spending, usual, risk)),
        *_nets(settings, registry),
        *_variants(settings),
    ]


def logged(settings: Settings) -> list[LoggedTable]:
    """The prediction logs that land as tables."""
    made = {asset.name: asset for asset in assets(settings)}
    return [logged_table(_columns_of([made[name] for name in FEATURE_ASSETS]))]


def _optional(
    settings: Settings, name: str, contract: Contract, watch: Watch, what: str, landed: str
) -> list[Asset]:
    """A daily table that a home may be without: as it landed, its valid rows, their profiles and checks."""
    raw = raw_table(f"raw/{name}", contract, source=name, description=f"{what} {landed}.")
    valid = validated_table(
        f"validated/{name}", raw, contract, description=f"{what} that keep the contract, sorted."
    )
    profiles = profile_table(valid)
    return [raw, valid, profiles, check_table(valid, profiles, watch, publish=page_linker(settings.reports))]


def _scenarios(settings: Settings) -> list[Asset]:
    """The kinds of reported frauds, for a home that has them: no model reads them, only its evaluation."""
    contract, watch = contracts.FRAUD_SCENARIOS, contracts.WATCH_FRAUD_SCENARIOS
    return _optional(settings, SCENARIOS, contract, watch, "Kinds of reported frauds", "as they landed")


def _served(settings: Settings, features: Sequence[Asset]) -> list[Asset]:
    """What the scoring service logged, where there is one, and how it compares with what models are trained on."""
    contract = scored_contract(_columns_of(features))
    return [
        *_optional(
            settings,
            TABLE,
            contract,
            WATCH,
            "Scored card transactions",
            "as the service scored them, landed from its log",
        ),
        skew_asset(features),
        scored_transactions(settings.registry / "bundles"),
        monitor_asset(monitor_publisher(settings.reports / USE / "serving", parameters.WORDS)),
    ]


def _columns_of(features: Sequence[Asset]) -> dict[str, Column]:
    return {name: column for asset in features for name, column in asset.columns.items()}


def _nets(settings: Settings, registry: Registry) -> list[Asset]:
    """The net beside LightGBM, and the blend of both, where the settings ask for them."""
    if settings.nets == "off":
        return []
    nets = tabm_assets(
        recipe=parameters.TABM_RECIPES[settings.nets],
        window_days=settings.training_window_days or parameters.TRAINING_WINDOW_DAYS,
        device=device_kind(settings.device),
        devices=settings.cuda_devices,
        checkpoints=settings.checkpoints,
        engine=engine_parameters(settings),
        cluster=cluster_of(settings),
        publish_model=model_publisher(registry),
        publish_report=report_publisher(settings.reports, registry, USE),
    )
    exported = export_asset(fraud_tabm_onnx, "fraud_tabm", kinds=("torch",))
    blend = blend_assets(
        publish_model=model_publisher(registry),
        publish_report=report_publisher(settings.reports, registry, USE),
    )
    if settings.variants == "off":
        return [*nets, exported, *blend]
    tuned = tuned_asset(
        nets[0],
        tuning=parameters.TABM_TUNING,
        device=device_kind(settings.device),
        checkpoints=settings.checkpoints,
    )
    return [*nets, exported, *blend, tuned]


def _variants(settings: Settings) -> list[Asset]:
    """Smaller and faster variants of the models, where the settings ask for them."""
    if settings.variants == "off":
        return []
    return smaller_assets(
        recipe=parameters.SMALLER,
        threads=settings.threads,
        nets=settings.nets != "off",
        reports=settings.reports / USE / "smaller",
    )


def contenders(settings: Settings) -> list[Contender]:
    """The models that may serve, and what is asked of them."""
    columns = TestColumns(
        key="TRANSACTION_ID",
        time="TX_DATETIME",
        cluster="CUSTOMER_ID",
        label="IS_FRAUD",
        amount="TX_AMOUNT",
        slices=SLICES,
        features=FEATURES,
    )
    shared: dict[str, Any] = {
        "use": USE,
        "test_set": "test_set",
        "columns": columns,
        "policy": parameters.POLICY,
        "measure": parameters.MEASURE,
        "words": parameters.WORDS,
        "looked_at": parameters.CARDS_A_DAY,
        "rows": "transactions",
        "consistency": (SKEW,),
        "online": online_forms,
        "summary": beside_published,
    }
    choice = lightgbm_choice(settings)
    found = [
        Contender(
            model="fraud_lightgbm",
            predictions="predictions",
            evaluation="evaluation",
            load=load_model,
            budget=parameters.LIGHTGBM_BUDGET,
            tuning=lightgbm_tuning(settings, choice),
            chosen_on=tuple(choice.folds) if choice else (),
            export=fraud_lightgbm_onnx.__name__,
            **shared,
        )
    ]
    if settings.nets != "off":
        found.append(
            Contender(
                model="fraud_tabm",
                predictions="tabm_predictions",
                evaluation="tabm_evaluation",
                load=load_net,
                budget=parameters.TABM_BUDGET,
                export=fraud_tabm_onnx.__name__,
                reproduced_within=parameters.TABM_REPRODUCED_WITHIN,
                **shared,
            )
        )
        found.append(
            Contender(
                model="fraud_blend",
                predictions="blend_predictions",
                evaluation="blend_evaluation",
                load=load_blend,
                budget=parameters.TABM_BUDGET,
                reproduced_within=parameters.TABM_REPRODUCED_WITHIN,
                **shared,
            )
        )
    return found


_TABLES: tuple[tuple[str, Contract, Grain, Watch], ...] = (
    ("customers", contracts.CUSTOMERS, Grain.ONCE, contracts.WATCH_PROFILES),
    ("terminals", contracts.TERMINALS, Grain.ONCE, contracts.WATCH_PROFILES),
    ("transactions", contracts.TRANSACTIONS, Grain.DAY, contracts.WATCH_TRANSACTIONS),
    ("fraud_reports", contracts.FRAUD_REPORTS, Grain.DAY, contracts.WATCH_FRAUD_REPORTS),
)
# Columns whose values are keys of another table, where that has landed: a transaction of an unknown card or
# terminal is a mistake of its source, or came before the profile did, and heals when that lands.
_REFERENCES: Mapping[str, Mapping[str, str]] = {
    "transactions": {"CUSTOMER_ID": "customers", "TERMINAL_ID": "terminals"}
}
