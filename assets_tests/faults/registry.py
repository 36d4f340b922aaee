"""The faults of the scorecard: what goes wrong, and where it is to be detected."""

from collections.abc import Callable
from dataclasses import dataclass

from assets_tests.faults.scene import Scene
from assets_tests.faults.verdicts import Expectation

Inject = Callable[[Scene], None]


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong in a healthy home.

    Attributes:
        name: what it is, in the words of the scorecard.
        expected: where it is to be detected, and what must hold then.
    """

    name: str
    expected: Expectation
    inject: Inject


@dataclass(frozen=True)
class Control:
    """Something that looks unusual and is well: it must raise nothing."""

    name: str
    inject: Inject


FAULTS: dict[str, Fault] = {}
CONTROLS: dict[str, Control] = {}


def fault(name: str, expected: Expectation) -> Callable[[Inject], Inject]:
    """Enter a fault under a name; the function brings it about."""

    def enter(inject: Inject) -> Inject:
        FAULTS[name] = Fault(name, expected, inject)
        return inject

    return enter


def control(name: str) -> Callable[[Inject], Inject]:
    """Enter a clean control; the function brings it about."""

    def enter(inject: Inject) -> Inject:
        CONTROLS[name] = Control(name, inject)
        return inject

    return enter
