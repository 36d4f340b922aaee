"""Checks: what is asked of every partition of an asset, and what the answer was.

An asset declares its checks; the function that makes a partition answers them in ``Produced.checks``, or in
the ``Refused`` that it raises. The answers are stored with the value, so that they are told again whenever
that value becomes current again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["warn", "error"]
WARN: Severity = "warn"
ERROR: Severity = "error"


@dataclass(frozen=True)
class Check:
    """A question that each partition of an asset answers.

    Attributes:
        name: letters, digits and underscores; one of its kind in the asset.
        description: the rule in words, for the catalogue.
        severity: what it means that a partition does not pass.
        metadata: plain values for the catalogue.
        about: the asset whose partitions it judges, where that is not the one that answers; of one grain.
    """

    name: str
    description: str = ""
    severity: Severity = "error"
    metadata: Mapping[str, Any] = field(default_factory=dict)
    about: str = ""


@dataclass(frozen=True)
class CheckResult:
    """How a partition answered.

    Attributes:
        check: name of the check.
        metadata: plain values: the numbers that the answer rests on.
        description: what was found, where there is something to say.
        severity: where it differs from that of the check.
    """

    check: str
    passed: bool
    metadata: Mapping[str, Any] = field(default_factory=dict)
    description: str = ""
    severity: Severity | None = None

    def as_json(self) -> dict[str, Any]:
        """The result as it stands in the record of a value; what says nothing is left out."""
        told = {"metadata": dict(self.metadata), "description": self.description, "severity": self.severity}
        return {"check": self.check, "passed": self.passed, **{k: v for k, v in told.items() if v}}

    @classmethod
    def of_json(cls, stored: Mapping[str, Any]) -> "CheckResult":
        """The result that ``as_json`` gave."""
        return cls(**stored)


@dataclass(frozen=True)
class Judgement:
    """What is said of all rows of a value.

    Attributes:
        checks: how they answer the checks of the asset.
        metadata: plain values for the Dagster UI.
    """

    checks: Sequence[CheckResult] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
