"""What a domain declares of a service: the rows that it scores, by which features, and how labels come back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from my_platform.features.online import OnlineFeatures
from my_platform.quality.contracts import Contract


@dataclass(frozen=True)
class Labels:
    """How a label is told.

    Attributes:
        table: the table of events that a label and its row make.
        contract: of the landed labels; its columns beside the row's key are the label's own.
        example: a label as it is sent, for people who read the interface.
        landed: the landed table of labels, a folder of files by the day on which they became known; labels that the
            service was told are landed there too. Empty where they are not.
        known: the label's column that says when it became known.
    """

    table: str
    contract: Contract
    example: Mapping[str, Any]
    landed: str = ""
    known: str = ""


@dataclass(frozen=True)
class Cases:
    """What people look at together when rows are flagged, and what label a confirmed row gets.

    Attributes:
        entity: the row's column whose value a case is about; a confirmed one is blocked.
        confirmed: the label's own columns of a confirmed row, but for the one that says when it became known.
    """

    entity: str
    confirmed: Mapping[str, Any]


@dataclass(frozen=True)
class Service:
    """A service that scores rows of one table with the champion of a use.

    Attributes:
        use: what its champion is for, as in the promotion ledger.
        contract: of the rows that are scored, as they land too.
        key, time: columns of the row: its id, and when it happened.
        forms: makes the feature sets' online form, each after those that it reads; it is called once.
        labels: how labels are told.
        example: a row as it is sent, for people who read the interface.
        words: what a feature is called where reasons are given; others keep their own names.
        cases: what flagged rows are looked at by; None where nobody does.
    """

    use: str
    contract: Contract
    key: str
    time: str
    forms: Callable[[], tuple[OnlineFeatures, ...]]
    labels: Labels
    example: Mapping[str, Any]
    words: Mapping[str, str] = field(default_factory=dict)
    cases: Cases | None = None
