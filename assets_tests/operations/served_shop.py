"""A home of the shop that has a champion, for tests of what a home holds as a whole."""

from pathlib import Path

from assets_tests.operations import shop
from my_platform.learning.bundle import write_bundle
from my_platform.learning.ledger import Line, Served
from my_platform.learning.registry_place import RegistryPlace
from my_platform.operations.session import opened

DAYS = 3


def make(home: Path) -> Path:
    """A home with three days of the shop, up to date, and a champion."""
    shop.land_days(home, DAYS)
    with opened(shop.settings(home)) as session:
        session.refresh()
    promote(home, b"trees")
    return home


def promote(home: Path, model: bytes) -> Line:
    """Make a model champion, whose bundle has one file, with no gate asked."""
    return bundle_and_line(RegistryPlace(home / "registry"), model)


def bundle_and_line(place: RegistryPlace, model: bytes) -> Line:
    """The same, wherever the registry lies."""
    digest = write_bundle(place.bundles, {"code": {}}, {"model.txt": model})
    ledger = place.promotions()
    before = ledger.standing("shop")
    after = Served("trees", "2026-01-07", "v", "r", digest)
    line = Line("2026-01-15T12:00:00+00:00", "test", "promote", "shop", "", before.champion, after)
    assert ledger.append(line, before)
    return line
