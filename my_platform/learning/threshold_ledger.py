"""The ledger of operating thresholds: who chose which policy, when and why. Only ever appended to, its last line counts."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from my_platform.errors import PlatformError
from my_platform.learning.ledger import now
from my_platform.learning.thresholds import ByBundle, Policy, check_policy, policy_json, policy_of_json
from my_platform.storage.appended import AppendedLines, Lines

THRESHOLDS = "thresholds.jsonl"


@dataclass(frozen=True)
class Chosen:
    """A policy as it was chosen.

    Attributes:
        version: 1 for the first one of its use; 0 where none was ever chosen.
        at: when, ISO 8601 in UTC.
    """

    policy: Policy
    version: int = 0
    at: str = ""
    who: str = ""
    why: str = ""

    def as_json(self) -> dict[str, Any]:
        """The shape in which it is told."""
        told = {name: getattr(self, name) for name in ("version", "at", "who", "why")}
        return {**policy_json(self.policy), **told}


class ThresholdLedger:
    """The ledger in a file of JSON lines, beside the promotion ledger of a registry's folder.

    Args:
        file: how the file is read and appended to; by default it is this machine's alone.
    """

    def __init__(self, registry: Path, file: Lines | None = None) -> None:
        self.path = registry / THRESHOLDS
        self._file = file or AppendedLines(self.path)

    def lines(self, use: str) -> list[Chosen]:
        """All policies that were chosen for a use, the earliest first; raises PlatformError where one cannot be read."""
        return [self._chosen(line, number) for number, line in enumerate(self._of(use), 1)]

    def present(self, use: str) -> Chosen:
        """The policy that counts: that of the bundles themselves until one is chosen; raises PlatformError."""
        lines = self._of(use)
        return self._chosen(lines[-1], len(lines)) if lines else Chosen(ByBundle())

    def choose(self, use: str, policy: Policy, *, who: str, why: str) -> Chosen:
        """Write a policy down, which counts from then on; raises PlatformError where it can choose nothing."""
        check_policy(policy)
        line = {"at": now(), "who": who, "why": why, "use": use, "policy": policy_json(policy)}
        self._file.append(line, unless=lambda _: False)
        return self.present(use)

    def _of(self, use: str) -> list[dict[str, Any]]:
        return [line for line in self._file.read() if line["use"] == use]

    def _chosen(self, line: Mapping[str, Any], version: int) -> Chosen:
        try:
            return Chosen(policy_of_json(line["policy"]), version, line["at"], line["who"], line["why"])
        except (LookupError, TypeError, AttributeError, PlatformError) as error:
            raise PlatformError(
                f"{self.path}, version {version} of {line.get('use')}: {error}; choose another policy with "
                "`my-platform threshold`"
            ) from error
