"""Which champion serves, with which threshold: two ledgers are watched, and a new champion taken up after its self-test."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from my_platform.errors import PlatformError
from my_platform.learning.ledger import PromotionLedger
from my_platform.learning.registry_place import RegistryPlace
from my_platform.learning.threshold_ledger import Chosen, ThresholdLedger
from my_platform.learning.thresholds import ByBundle
from my_platform.serving.model import ServedModel, load_model, self_test
from my_platform.serving.scorer import Scorer

logger = logging.getLogger("my_platform.serving")


class Refusal(NamedTuple):
    """A champion that is not taken up: its bundle, and why."""

    bundle: str
    why: str


class Found(NamedTuple):
    """What a look at the ledgers gave: models to take up, and why one of them is not the one that is named.

    `refused` says whether that is the champion; the model, if any, is then the one that serves, with its threshold of now.
    """

    model: ServedModel | None
    shadow: ServedModel | None
    refusal: Refusal | None
    refused: bool = False


@dataclass
class Champion:
    """The champion of a use as the ledger of a home says it.

    Args:
        place: where the ledgers and the bundles lie; this machine's copy is what is watched.
        known: the features of the online state, in its order.
        code_versions: of the running code by asset.
        shadow: `off`, `previous` for the former champion, or the digest of a bundle.
    """

    place: RegistryPlace
    use: str
    known: Sequence[str]
    code_versions: Mapping[str, str]
    shadow: str = "off"
    refusal: Refusal | None = None
    _seen: tuple[tuple[int, int] | None, ...] = (None, None)
    _unreachable: bool = False

    def pull(self) -> None:
        """Bring this machine's copy of ledgers that are shared up to date; where that fails, it is said once.

        It asks a bucket, so another thread does it.
        """
        try:
            self.place.pull()
        except Exception as error:
            # Whatever a bucket or the way to it does, what serves goes on.
            if not self._unreachable:
                logger.error("the shared ledgers cannot be read, and what serves goes on: %s", error)
            self._unreachable = True
        else:
            if self._unreachable:
                logger.info("the shared ledgers can be read again")
            self._unreachable = False

    def moved(self) -> bool:
        """Whether one of the ledgers has changed since this was last asked."""
        found = tuple(_mark(path) for path in (self._ledger.path, self._thresholds.path))
        seen, self._seen = self._seen, found
        return seen != found and found[0] is not None

    def look(self, serving: ServedModel | None, stored: Sequence[Mapping[str, float | None]]) -> Found:
        """Load what the ledger names and test it; nothing of the service is touched, so another thread may do it.

        Args:
            stored: features by name of rows that were scored before.
        """
        standing = self._ledger.standing(self.use)
        champion = standing.champion
        if champion is None:
            return Found(None, None, None)
        model, refusal = serving, None
        chosen, unreadable = self._chosen(serving)
        if serving is None or serving.digest != champion.bundle:
            model, refusal = self._tested(champion.bundle, stored)
        refused = model is None
        model = serving if model is None else model
        if model is not None:
            model = model.by(chosen)
            if unreadable:
                model = replace(model, decided=(chosen, unreadable))
        digest = self.shadow
        if digest == "previous":
            digest = standing.previous.bundle if standing.previous else "off"
        shadow = None
        if digest not in ("off", champion.bundle):
            shadow, other = self._tested(digest, stored)
            refusal = refusal or other
        return Found(model, shadow, refusal, refused)

    def take_up(self, scorer: Scorer, found: Found) -> bool:
        """Let a scorer answer by what was found from its next group on; whether its champion is another one."""
        self.refusal = found.refusal
        before = scorer.model
        if found.model is not None:
            scorer.model = found.model
        scorer.shadow = found.shadow
        return scorer.model is not None and (before is None or scorer.model.digest != before.digest)

    def _chosen(self, serving: ServedModel | None) -> tuple[Chosen, str]:
        """The policy of the threshold; where it cannot be read the one that serves, and why."""
        try:
            return self._thresholds.present(self.use), ""
        except PlatformError as error:
            return serving.decided[0] if serving is not None else Chosen(ByBundle()), str(error)

    def _tested(
        self, digest: str, stored: Sequence[Mapping[str, float | None]]
    ) -> tuple[ServedModel | None, Refusal | None]:
        try:
            model = load_model(self.place.bundles, digest, self.known, self.code_versions)
            self_test(model, stored)
        except Exception as error:
            # Whatever a bundle does to the libraries that read it, what serves goes on.
            why = str(error) if isinstance(error, PlatformError) else f"{type(error).__name__}: {error}"
            return None, Refusal(digest, why)
        return model, None

    @property
    def _ledger(self) -> PromotionLedger:
        return self.place.copy.promotions()

    @property
    def _thresholds(self) -> ThresholdLedger:
        return self.place.copy.thresholds()


def _mark(path: Path) -> tuple[int, int] | None:
    """What changes whenever a file is written to; None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_size
