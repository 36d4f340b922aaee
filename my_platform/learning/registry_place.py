"""Where the ledgers and the bundles of a home lie: in its folder, and where machines share them, in the bucket.

What several machines share lies below ``registry/`` there: the lines of both ledgers, and each bundle before the line that
names it. A home's folder is then a copy, in which all is that its lines name, so whoever reads it reads plain files.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from my_platform.errors import PlatformError
from my_platform.learning.bundle import send_bundle, take_bundle
from my_platform.learning.ledger import PromotionLedger
from my_platform.learning.threshold_ledger import THRESHOLDS, ThresholdLedger
from my_platform.settings import Settings
from my_platform.storage.bucket import Patience
from my_platform.storage.objects import ObjectStore, open_store
from my_platform.storage.shared_lines import SharedLines

PROMOTIONS = "promotions.jsonl"


@dataclass
class RegistryPlace:
    """Where the ledgers and the bundles of a home lie.

    Args:
        folder: of this machine.
        open: opens the store that machines share; None where the folder is all there is.
    """

    folder: Path
    open: Callable[[], ObjectStore] | None = None

    @classmethod
    def of(cls, settings: Settings, patience: Patience | None = None) -> "RegistryPlace":
        """The place that the settings name: shared in the profiles in which several machines work on one home."""
        if settings.profile == "embedded":
            return cls(settings.registry)
        return cls(settings.registry, partial(_opened, settings, patience or Patience.of(settings)))

    @property
    def is_shared(self) -> bool:
        return self.open is not None

    @property
    def bundles(self) -> Path:
        return self.folder / "bundles"

    @property
    def copy(self) -> "RegistryPlace":
        """What this machine has of it, which is read without a request and may be behind."""
        return RegistryPlace(self.folder)

    @cached_property
    def store(self) -> ObjectStore | None:
        """What machines share, opened when it is first asked for."""
        return self.open() if self.open is not None else None

    def promotions(self) -> PromotionLedger:
        """The promotion ledger."""
        return PromotionLedger(self.folder / PROMOTIONS, self._shared_promotions)

    def thresholds(self) -> ThresholdLedger:
        """The ledger of operating thresholds."""
        return ThresholdLedger(self.folder, self._shared_thresholds)

    def pull(self) -> int:
        """Bring this machine's copy up to date, and send what only it has; the number of lines.

        Raises:
            PlatformError: the two do not fit, or what lies in the store is damaged.
        """
        return sum(len(each.pull()) for each in self._shared)

    def compare(self) -> int:
        """The same, each line compared with the one in the store, and sent again where it is gone there."""
        return sum(len(each.compare()) for each in self._shared)

    @property
    def _shared(self) -> list[SharedLines]:
        return [each for each in (self._shared_promotions, self._shared_thresholds) if each is not None]

    @cached_property
    def _shared_promotions(self) -> SharedLines | None:
        store, bundles = self.store, self.bundles
        if store is None:
            return None
        return SharedLines(
            self.folder / PROMOTIONS,
            store,
            "promotions",
            before_sent=lambda line: send_bundle(store, bundles, _bundle_of(line)),
            before_taken=lambda line: take_bundle(store, bundles, _bundle_of(line)),
        )

    @cached_property
    def _shared_thresholds(self) -> SharedLines | None:
        if self.store is None:
            return None
        return SharedLines(self.folder / THRESHOLDS, self.store, "thresholds")


def _opened(settings: Settings, patience: Patience) -> ObjectStore:
    if settings.bucket_url is None:
        raise PlatformError(
            f"in the profile {settings.profile} the ledger of who serves lies in the bucket: set MY_PLATFORM_BUCKET_URL, as "
            f"deploy/{settings.profile}/settings.env tells"
        )
    return open_store(f"{settings.bucket_url}/registry", patience)


def _bundle_of(line: Any) -> str:
    return str(line["after"]["bundle"])
