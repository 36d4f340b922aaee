"""What people of a domain call what a search for few rows among many is about."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Words:
    """The words of reports, pages and messages.

    Attributes:
        positives: rows with label 1, in the plural.
        negative: what a row with label 0 is.
        clusters: what is looked at as a whole, in the plural.
    """

    positives: str = "positives"
    negative: str = "negative"
    clusters: str = "clusters"


WORDS = Words()
