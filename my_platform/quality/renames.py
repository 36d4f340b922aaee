"""Guesses at renamed columns: a missing column and an unknown one that look like the same thing.

A guess only helps a person to read a refusal. It changes no value and takes no file.
"""

from difflib import SequenceMatcher

import pandera.polars as pa
import polars as pl

from my_platform.errors import Refused
from my_platform.quality.columns import Difference, OtherColumns, same_type
from my_platform.quality.contracts import Contract
from my_platform.quality.parsing import as_type

_MOST_ROWS = 10_000
_LEAST_SHARE = 0.9
# Names that share about half of their letters.
_LIKE = 0.5


def with_guesses(error: OtherColumns, contract: Contract) -> Refused:
    """The same refusal, which also says which columns look renamed, and how to take them."""
    missing = [difference.column for difference in error.differences if difference.what == "missing"]
    added = [difference.column for difference in error.differences if difference.what == "added"]
    table = error.table.head(_MOST_ROWS)
    pairs = _best_pairs(table, missing, added, contract, typed=error.typed)
    if not pairs:
        return error
    words = [
        f"{new} looks like {old} renamed: it has its type, and {share:.0%} of its values keep its rules"
        for new, (old, share) in pairs.items()
    ]
    renames = ", ".join(f'"{new}": "{old}"' for new, (old, _) in pairs.items())
    return error.with_more(
        f"{'; '.join(words)}. To take it so, say renames={{{renames}}} in the contract",
        [Difference("renamed", old, old, new) for new, (old, _) in pairs.items()],
    )


def _best_pairs(
    table: pl.DataFrame, missing: list[str], added: list[str], contract: Contract, *, typed: bool
) -> dict[str, tuple[str, float]]:
    """By unknown column: the missing one that it looks like, and the share of its values that keep its rules."""
    fitting = []
    for old in missing:
        for new in added:
            share = _share_kept(table[new], old, contract, typed=typed)
            if share is not None and share >= _LEAST_SHARE:
                likeness = SequenceMatcher(None, old.casefold(), new.casefold()).ratio()
                fitting.append((-likeness, -share, old, new))
    pairs: dict[str, tuple[str, float]] = {}
    for likeness, share, old, new in sorted(fitting):
        # A name that says nothing is enough only where the values fit nothing else.
        alone = sum(old == o or new == n for _, _, o, n in fitting) == 1
        if (-likeness >= _LIKE or alone) and new not in pairs and old not in {o for o, _ in pairs.values()}:
            pairs[new] = (old, -share)
    return pairs


def _share_kept(values: pl.Series, column: str, contract: Contract, *, typed: bool) -> float | None:
    """The share of values that keep the rules of a column; None where they are of another type."""
    kind = contract.schema[column]
    if not typed:
        try:
            values = as_type(values, kind)
        except (pl.exceptions.PolarsError, ValueError):
            return None
    if not same_type(values.dtype, kind):
        return None
    rules = pa.DataFrameSchema({column: contract.model.to_schema().columns[column]})
    table = values.alias(column).to_frame().cast({column: kind}, strict=False)
    try:
        rules.validate(table, lazy=True)
    except pa.errors.SchemaErrors as errors:
        bad = errors.failure_cases["index"].n_unique()
        return 1 - bad / max(table.height, 1)
    return 1.0
