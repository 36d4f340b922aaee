"""The assets of electricity demand, from landed files to evaluation reports."""

from my_platform.domains.demand import contracts, features, models
from my_platform.features.assets import feature_asset
from my_platform.incremental.declare import Asset, Grain
from my_platform.learning.contender import Contender
from my_platform.learning.forecast import Forecast, forecast_contender
from my_platform.learning.forecast_assets import forecast_assets
from my_platform.learning.publishing import model_publisher, report_publisher
from my_platform.learning.registry import Registry
from my_platform.quality.checks import check_table
from my_platform.quality.page import page_linker
from my_platform.quality.profiles import profile_table
from my_platform.quality.references import known_keys, unknown_keys
from my_platform.quality.tables import raw_table, validated_table
from my_platform.settings import Settings

_TABLES = {
    "meters": (contracts.METERS, contracts.WATCH_METERS),
    "hours": (contracts.HOURS, contracts.WATCH_HOURS),
    "readings": (contracts.READINGS, contracts.WATCH_READINGS),
    "weather": (contracts.WEATHER, contracts.WATCH_WEATHER),
}
_RAW = {
    name: raw_table(f"raw/{name}", contract, source=name, grain=Grain.ONCE if name == "meters" else Grain.DAY)
    for name, (contract, _) in _TABLES.items()
}
_METERS = validated_table("validated/meters", _RAW["meters"], contracts.METERS)
# An hour of an unknown meter is a mistake of its source, or came before the profile did, and heals when that lands.
_KNOWN = known_keys("known_meters", _METERS, "METER_ID")
_UNKNOWN = unknown_keys("unknown_meters", _RAW["hours"], "METER_ID", _KNOWN)
_VALID = {
    "meters": _METERS,
    "hours": validated_table(
        "validated/hours", _RAW["hours"], contracts.HOURS, references={"METER_ID": _UNKNOWN}
    ),
    "readings": validated_table("validated/readings", _RAW["readings"], contracts.READINGS),
    "weather": validated_table("validated/weather", _RAW["weather"], contracts.WEATHER),
}
_EVENTS = {asset.name: asset for asset in (features.known_demand, _VALID["weather"])}
_FEATURES = tuple(
    (declared, feature_asset(declared, rows=features.meter_hours, events=_EVENTS[declared.events]))
    for declared in features.FEATURE_SETS
)


def assets(settings: Settings) -> list[Asset]:
    """All assets, with the training window and the number of trees that the settings choose."""
    link = page_linker(settings.reports)
    profiles = {name: profile_table(valid) for name, valid in _VALID.items()}
    declared = _forecast(settings)
    registry = Registry.of(settings)
    return [
        *_RAW.values(),
        *(_KNOWN, _UNKNOWN),
        *_VALID.values(),
        *profiles.values(),
        *(
            check_table(_VALID[name], profiles[name], watch, publish=link)
            for name, (_, watch) in _TABLES.items()
        ),
        *(features.meter_hours, features.known_demand),
        *(asset for _, asset in _FEATURES),
        *forecast_assets(
            declared,
            threads=settings.threads,
            gaps=settings.training_gaps,
            publish_model=model_publisher(registry, models.USE, models.INTENDED, declared.training_set),
            publish_report=report_publisher(settings.reports, registry, models.USE),
        ),
    ]


def contenders(settings: Settings) -> list[Contender]:
    """The models that may serve, and what is asked of them."""
    return [forecast_contender(_forecast(settings), budget=models.BUDGET, policy=models.POLICY)]


def _forecast(settings: Settings) -> Forecast:
    return models.forecast(settings, features.meter_hours, features.known_demand, _FEATURES)
