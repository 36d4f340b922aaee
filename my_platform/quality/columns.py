"""The columns of landed files: how they differ from those that a contract names, and what is done about it.

Raw tables depend on this and on nothing else of a contract, so that a changed rule for rows does not have
the files read again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import polars as pl

from my_platform.errors import PlatformError, Refused

# Binary digits of the largest whole number that each type holds.
_WIDTHS: Mapping[type[pl.DataType], int] = {
    **{pl.Int8: 7, pl.Int16: 15, pl.Int32: 31, pl.Int64: 63},
    **{pl.UInt8: 8, pl.UInt16: 16, pl.UInt32: 32, pl.UInt64: 64},
}
# Whole numbers up to these bits have a floating-point number each.
_EXACT_BITS: Mapping[type[pl.DataType], int] = {pl.Float32: 24, pl.Float64: 53}


@dataclass(frozen=True)
class Columns:
    """The columns that a table's files have, and what is done with files that differ.

    Attributes:
        types: type by column, in order.
        extra: what is done with columns beyond these: the file is refused, or they are left out.
        renames: other names under which a column may land, to its own.
        casts: other types in which a column may land; each value must have one of the column's own type.
    """

    types: Mapping[str, pl.DataType]
    extra: Literal["refuse", "ignore"] = "refuse"
    renames: Mapping[str, str] = field(default_factory=dict)
    casts: Mapping[str, tuple[pl.DataType, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for old, new in self.renames.items():
            if new not in self.types or old in self.types:
                raise PlatformError(
                    f"renames: {old} to {new}; the new name must be one of the columns, and the old one none: "
                    f"{', '.join(self.types)}"
                )
        for name, kinds in self.casts.items():
            if name not in self.types:
                raise PlatformError(f"casts: {name} is none of the columns {', '.join(self.types)}")
            for kind in kinds:
                if not is_lossless(kind, self.types[name]):
                    raise PlatformError(
                        f"casts: {name} from {kind} to {self.types[name]} does not keep every value; "
                        "let the source deliver the type, or change the type in the contract"
                    )

    @property
    def parameters(self) -> dict[str, Any]:
        """What counts of it in a fingerprint: names and types, and where it is lenient."""
        lenient = {
            "extra": self.extra if self.extra != "refuse" else None,
            "renames": dict(self.renames),
            "casts": {name: [str(kind) for kind in kinds] for name, kinds in self.casts.items()},
        }
        types = {name: str(kind) for name, kind in self.types.items()}
        return {"columns": types, **{name: value for name, value in lenient.items() if value}}


@dataclass(frozen=True)
class Difference:
    """One way in which a file's columns are not those of the contract.

    Attributes:
        what: ``missing``, ``added``, ``renamed``, ``retyped`` or ``reordered``.
        column: its name in the contract; for an added one, its name in the file.
        expected, found: types; for a renamed one, names; for reordered ones, the names in order.
        done: what the contract says is done about it; empty where the file is refused for it.
    """

    what: Literal["missing", "added", "renamed", "retyped", "reordered"]
    column: str
    expected: str = ""
    found: str = ""
    done: str = ""

    def in_words(self) -> str:
        match self.what:
            case "missing":
                return f"column {self.column} is missing"
            case "added":
                return f"column {self.column} is not in the contract"
            case "renamed":
                return f"column {self.column} is named {self.found}"
            case "retyped":
                return f"column {self.column} is {self.found}, expected {self.expected}"
            case "reordered":
                return f"the columns come in the order {self.found}"


class OtherColumns(Refused):
    """A file has other columns than its contract.

    Attributes:
        differences: those for which it is refused.
        table: its rows as they were read.
        typed: whether the file has types of its own.
    """

    def __init__(
        self,
        file: str,
        found: Sequence[Difference],
        columns: Columns,
        table: pl.DataFrame,
        *,
        typed: bool = True,
    ) -> None:
        refused = [difference for difference in found if not difference.done]
        super().__init__(
            f"{file}: {'; '.join(_grouped(refused))}. Expected are the columns {', '.join(columns.types)}: "
            "deliver the file again, or change the contract",
            metadata={"columns": as_table(found)},
        )
        self.differences = tuple(refused)
        self.table = table
        self.typed = typed

    def with_more(self, words: str, guessed: Sequence[Difference]) -> Refused:
        """The refusal with more that people should know of it."""
        rows = [*self.metadata["columns"], *({**row, "done": "a guess"} for row in as_table(guessed))]
        return Refused(f"{self}. {words}", metadata={"columns": rows})


def differences(found: pl.Schema, columns: Columns, *, typed: bool = True) -> list[Difference]:
    """How a file's columns differ from the contract's, in the contract's order.

    Args:
        typed: whether the file has types of its own, as Parquet does and CSV does not.
    """
    names = {columns.renames.get(name, name): name for name in found if name not in columns.types} | {
        name: name for name in found if name in columns.types
    }
    result = []
    for name, kind in columns.types.items():
        if name not in names:
            result.append(Difference("missing", name, str(kind)))
            continue
        landed = names[name]
        if landed != name:
            result.append(Difference("renamed", name, name, landed, "taken under its name in the contract"))
        if typed and not same_type(found[landed], kind):
            cast = found[landed] in columns.casts.get(name, ())
            done = f"cast to {kind}" if cast else ""
            result.append(Difference("retyped", name, str(kind), str(found[landed]), done))
    used = {names[name] for name in columns.types if name in names}
    result += [
        Difference("added", name, "", str(found[name]), "left out" if columns.extra == "ignore" else "")
        for name in found
        if name not in used
    ]
    order = [name for name in found if name in used]
    expected = [names[name] for name in columns.types if name in names]
    if order != expected:
        done = "read in the contract's order"
        result.append(Difference("reordered", "", ", ".join(expected), ", ".join(order), done))
    return result


def conform(
    table: pl.DataFrame, columns: Columns, file: str, *, typed: bool = True
) -> tuple[pl.DataFrame, list[Difference]]:
    """A file's rows under the contract's names, types and order, and how the file differed.

    Times keep their unit and zone; see ``tables`` for what becomes of them.

    Raises:
        OtherColumns: the contract does not provide for a difference; names file and columns.
    """
    found = differences(table.schema, columns, typed=typed)
    if any(not difference.done for difference in found):
        raise OtherColumns(file, found, columns, table, typed=typed)
    names = {d.found: d.column for d in found if d.what == "renamed"}
    retyped = {d.column: columns.types[d.column] for d in found if d.what == "retyped"}
    return table.rename(names).select(list(columns.types)).cast(retyped, strict=True), found  # type: ignore[arg-type]


def as_table(found: Sequence[Difference]) -> list[dict[str, str]]:
    """Differences as rows of a table for people."""
    return [
        {
            "column": d.column,
            "difference": d.what,
            "expected": d.expected,
            "found": d.found,
            "done": d.done or "refused",
        }
        for d in found
    ]


def same_type(found: pl.DataType, expected: pl.DataType) -> bool:
    """Whether a landed type is the contract's; times may have any unit, and be marked as UTC."""
    if isinstance(found, pl.Datetime) and isinstance(expected, pl.Datetime):
        return found.time_zone in (None, "UTC")
    return found == expected


def is_lossless(found: pl.DataType, wanted: pl.DataType) -> bool:
    """Whether every value of a type has a value of another type that says the same."""
    one, other = found.base_type(), wanted.base_type()
    if one in _WIDTHS and other in _WIDTHS:
        signs = one.is_signed_integer() <= other.is_signed_integer()
        return signs and _WIDTHS[one] <= _WIDTHS[other]
    if one in _WIDTHS and other in _EXACT_BITS:
        return _WIDTHS[one] <= _EXACT_BITS[other]
    if one == pl.Float32 and other == pl.Float64:
        return True
    return other == pl.String and one in (pl.Categorical, pl.Enum)


def _grouped(found: Sequence[Difference]) -> list[str]:
    """Differences in words; missing columns in one phrase, and added ones in another."""
    words = []
    for what in ("missing", "added"):
        names = [d.column for d in found if d.what == what]
        if names:
            words.append(Difference(what, ", ".join(names)).in_words())
    return words + [d.in_words() for d in found if d.what not in ("missing", "added")]
