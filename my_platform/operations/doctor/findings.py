"""Findings: what a check saw, whether that is well, and what to do where it is not."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from my_platform.errors import PlatformError
from my_platform.settings import Settings

Status = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        check: the name of the check.
        todo: what to do about it, with the command that does it; empty where all is well.
    """

    check: str
    status: Status
    found: str
    todo: str = ""

    def as_json(self) -> dict[str, str]:
        return asdict(self)


@dataclass(frozen=True)
class Told:
    """A finding as a check gives it, which does not know its own name."""

    status: Status
    found: str
    todo: str = ""


Check = Callable[[Settings], Iterator[Told]]


def ok(found: str) -> Told:
    return Told("ok", found)


def warning(found: str, todo: str) -> Told:
    return Told("warning", found, todo)


def problem(found: str, todo: str) -> Told:
    return Told("problem", found, todo)


def examine(settings: Settings, checks: Mapping[str, Check]) -> list[Finding]:
    """Do all checks, in their order. One that fails is a problem of its own."""
    found: list[Finding] = []
    for name, check in checks.items():
        try:
            for told in check(settings):
                found.append(Finding(name, told.status, told.found, told.todo))
        except PlatformError as error:
            found.append(Finding(name, "problem", str(error), "do what the message says, and look again"))
        except Exception as error:
            # On a broken home anything may come up, and it is what the doctor is asked for.
            said = f"this could not be looked at: {type(error).__name__}: {error}"
            found.append(
                Finding(
                    name, "problem", said, "see to what the message names, and run `my-platform doctor` again"
                )
            )
    return found
