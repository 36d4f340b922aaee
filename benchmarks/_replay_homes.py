"""Two homes for a replay: one as it was when a week began, whose champion serves it, and one that has the week.

The first never sees a day of the week. The second is a copy of it in which the rest has landed, so that both have
the same model, and it has what the model is held against: the week's features, test set and evaluation.
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from my_platform.domains.fraud.landing_files import extend_calendar
from my_platform.operations.promotion import promote
from my_platform.operations.session import Session, opened
from my_platform.settings import Settings
from my_platform.storage.calendar import calendar_path, read_calendar

MODEL, EXPORT, EVALUATION = "fraud_lightgbm", "fraud_lightgbm_onnx", "evaluation"


@dataclass(frozen=True)
class ReplayHomes:
    """A week's two homes.

    Attributes:
        whole: a landing with all days, through the last report on the week.
        folder: where the homes are.
        week: the day on which the week begins.
        settings: of both homes.
    """

    whole: Path
    folder: Path
    week: date
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def serving(self) -> Path:
        """The home of the service."""
        return self.folder / "serving"

    @property
    def later(self) -> Path:
        """The home that has the week."""
        return self.folder / "later"

    @contextmanager
    def opened(self, home: Path) -> Iterator[Session]:
        """A session on one of them."""
        with opened(Settings(**{"home": home, "promote": "never", **self.settings})) as session:
            yield session

    def build(self) -> None:
        """Make both; raises RuntimeError where the model cannot be made, or comes out another one later."""
        land_before(self.whole, self.serving / "landing", self.week)
        with self.opened(self.serving) as session:
            self._refresh(session, EXPORT)
            models = session.models
            if not promote(models, models.candidate(MODEL), who="replay", why="a replay", forced=True).serves:
                raise RuntimeError(f"{MODEL} {self.week} was not promoted")
        shutil.copytree(self.serving, self.later)
        land_before(self.whole, self.later / "landing", date.max)
        with self.opened(self.later) as session:
            self._refresh(session, EVALUATION)
            fitted = session.versions()[MODEL][str(self.week)]
            champion = session.models.registry.ledger.standing("fraud").champion
        if champion is None or champion.version != fitted:
            raise RuntimeError(
                f"{MODEL} {self.week} is {fitted} with the week's days, and {champion} without"
            )

    def _refresh(self, session: Session, asset: str) -> None:
        """Bring an asset of the week up to date, and all days that it is made of."""
        names = session.workspace.project.ancestors([asset])
        weekly = {name for name in names if session.workspace.project.assets[name].grain.name == "WEEK"}
        for select, first in ((names - weekly, None), (weekly, self.week)):
            report = session.refresh(select=",".join(sorted(select)), first=first, through=first)
            if report.problems:
                raise RuntimeError(f"the refresh of {asset} failed: {report.problems}")


def land_before(whole: Path, landing: Path, end: date) -> None:
    """Copy what had landed before a day began: the files of earlier days, and those that are of no day."""
    last = date.min
    for path in sorted(whole.rglob("*.*")):
        day = _day_of(path)
        if path != calendar_path(whole) and path.is_file() and (day is None or day < end):
            last = max(last, day or last)
            target = landing / path.relative_to(whole)
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
    calendar = read_calendar(whole)
    assert calendar is not None
    extend_calendar(landing, calendar.first, min(last, end - timedelta(days=1)))


def _day_of(path: Path) -> date | None:
    try:
        return date.fromisoformat(path.stem)
    except ValueError:
        return None
