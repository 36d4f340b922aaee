"""What a written domain is put together from: landed tables with their checks, and a forecast that is published."""

from dataclasses import dataclass

from my_platform.incremental.declare import Asset, Grain
from my_platform.learning.forecast import Forecast
from my_platform.learning.forecast_assets import forecast_assets
from my_platform.learning.publishing import model_publisher, report_publisher
from my_platform.learning.registry import Registry
from my_platform.quality.checks import check_table
from my_platform.quality.contracts import Contract
from my_platform.quality.page import page_linker
from my_platform.quality.profiles import profile_table
from my_platform.quality.tables import raw_table, validated_table
from my_platform.quality.watch import Watch
from my_platform.settings import Settings


@dataclass(frozen=True)
class LandedTable:
    """A table as it landed, and its rows that keep the contract."""

    raw: Asset
    valid: Asset
    watch: Watch

    def assets(self, settings: Settings) -> list[Asset]:
        """Both, with the profiles and checks of the valid rows."""
        profiles = profile_table(self.valid)
        checks = check_table(self.valid, profiles, self.watch, publish=page_linker(settings.reports))
        return [self.raw, self.valid, profiles, checks]


def landed_table(
    name: str, contract: Contract, *, once: bool = False, watch: Watch | None = None
) -> LandedTable:
    """The assets of a landed table.

    Args:
        once: whether it lands as one file, and not as one a day.
        watch: what its checks compare with the days before; by default the number of rows.
    """
    raw = raw_table(f"raw/{name}", contract, source=name, grain=Grain.ONCE if once else Grain.DAY)
    return LandedTable(raw, validated_table(f"validated/{name}", raw, contract), watch or Watch())


def published(forecast: Forecast, settings: Settings, intended: str) -> list[Asset]:
    """The weekly assets of a forecast, which show models in MLflow and reports in the reports folder.

    Args:
        intended: what the model is for and what it is not for, for its model card.
    """
    registry = Registry.of(settings)
    return forecast_assets(
        forecast,
        threads=settings.threads,
        gaps=settings.training_gaps,
        publish_model=model_publisher(registry, forecast.use, intended, forecast.training_set),
        publish_report=report_publisher(settings.reports, registry, forecast.use),
    )
