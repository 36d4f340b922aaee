"""Keys that other tables know, as small assets, so that a rule may count on them and stay exact.

A rule such as "every SHOP_ID is one of the shops" reads another table, and each of its changes
would have every day checked again. Two small tables stand between: the known keys, which do not change when
a profile does, and the keys of a day that are not known, which are mostly none and stay so when a key is
added. A day is checked again when, and only when, a key that it refers to becomes known or unknown.
"""

import polars as pl

from my_platform.errors import PlatformError
from my_platform.incremental.declare import Asset, Column, Produced, Read, same, table


def known_keys(name: str, keys_of: Asset, column: str) -> Asset:
    """The different values of a key column, sorted.

    Args:
        keys_of: a validated table without partitions.
    """

    def known(rows: pl.LazyFrame) -> Produced:
        found = rows.select(pl.col(column).unique().sort()).collect()
        return Produced(found, metadata={"keys": found.height})

    return table(
        name,
        grain=keys_of.grain,
        reads={"rows": Read(keys_of.name, columns=(column,))},
        group="references",
        description=f"The values of {column} that {keys_of.name} knows.",
        columns={column: keys_of.columns[column]},
        lineage={column: ((keys_of.name, column),)},
    )(known)


def unknown_keys(name: str, raw: Asset, column: str, known: Asset) -> Asset:
    """The values of a column of a raw table that are no known keys, by partition; nulls refer to nothing.

    There are no partitions as long as the known keys have not landed: then no row is held against them.
    """
    ((key, known_column),) = known.columns.items()
    if known_column.type != raw.columns[column].type:
        raise PlatformError(
            f"{raw.name}: {column} is {raw.columns[column].type}, and {key} of {known.name} is {known_column.type}; "
            "a key and what refers to it have one type"
        )

    def unknown(rows: pl.LazyFrame, known: pl.LazyFrame) -> Produced:
        values = rows.select(pl.col(column).unique()).drop_nulls()
        found = values.join(known, left_on=column, right_on=key, how="anti").sort(column).collect()
        return Produced(found, metadata={"unknown": found.height})

    return table(
        name,
        grain=raw.grain,
        reads={"rows": same(raw.name, columns=[column]), "known": Read(known.name)},
        group="references",
        description=f"The values of {column} in {raw.name} that {known.name} does not have.",
        columns={column: Column(raw.columns[column].type, f"a value that {known.name} does not have")},
        lineage={column: ((raw.name, column), (known.name, key))},
    )(unknown)
