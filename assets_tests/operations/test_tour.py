"""What docs/tour.md shows, done in a real browser against the real web server and daemon."""

from collections.abc import Callable, Iterator

import pytest

from assets_tests.operations.tour import CHROMIUM, STEPS, Walk, begun

pytestmark = [pytest.mark.slow, pytest.mark.browser]


@pytest.fixture(scope="module")
def walk() -> Iterator[Walk]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed (Debian package chromium; make test-slow as root installs it)")
    with begun() as found:
        yield found


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
def test_the_tour_can_be_walked(walk: Walk, step: Callable[[Walk], None]) -> None:
    step(walk)
