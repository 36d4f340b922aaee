"""A small domain for tests: models that are made up to be better, worse or at fault in one way each."""

import json
import random
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandera.polars as pa
import polars as pl
from onnx import TensorProto, helper, numpy_helper

from my_platform.incremental.checks import Check, CheckResult
from my_platform.incremental.declare import Asset, Column, Grain, Produced, Read, same, table
from my_platform.learning.budgets import Budget
from my_platform.learning.contender import Contender, TestColumns
from my_platform.learning.export.canonical import canonical_bytes
from my_platform.learning.export.parity import PARITY_CHECK, exported_model
from my_platform.learning.gate import Policy
from my_platform.quality.contracts import Contract
from my_platform.quality.tables import raw_table
from my_platform.settings import Settings
from my_platform.storage.lake import file_in, files_table

USE = "contest"
FIRST = date(2026, 1, 7)
# The last model is of the day after; those of four weeks before were tested by then.
DAYS, ROWS_A_DAY = 42, 120
LAST_WEEK = (FIRST + timedelta(days=DAYS)).isoformat()
SMALL_KIND = 1


class Payments(pa.DataFrameModel):
    """Payments of one UTC day; each is a fraud with the chance that it tells."""

    ROW_ID: int = pa.Field(unique=True)
    AT: datetime
    CARD: int
    KIND: int
    CHANCE: float
    FRAUD: bool

    class Config:
        strict = True


CHANCE, FRAUD, KIND = pl.col("CHANCE"), pl.col("FRAUD").cast(pl.Float64), pl.col("KIND")
# Calibrated, but without an opinion on some of the payments.
PLAIN, BETTER = (pl.when(pl.col("ROW_ID") % 4 < known).then(CHANCE).otherwise(0.15) for known in (2, 3))
PLAYERS: Mapping[str, pl.Expr] = {
    "plain": PLAIN,
    "copy_of_plain": PLAIN,
    "better": BETTER,
    "best": CHANCE,
    "loud": CHANCE * 1.4,
    "slow": CHANCE,
    "fast_as_onnx": CHANCE,
    "wrong_as_onnx": CHANCE,
    "leaking": 0.7 * FRAUD + 0.3 * CHANCE,
    "suspect": 0.2 * FRAUD + 0.8 * CHANCE,
    "worse_on_small": pl.when(KIND == SMALL_KIND).then(0.15).otherwise(CHANCE),
}
CHECKS = (Check("only_the_past"), Check("no_feature_like_a_label", severity="warn"))
# Slow by their own files; what is exported of one of them says something else.
EXPORTED = {"fast_as_onnx": PLAYERS["fast_as_onnx"], "wrong_as_onnx": 1 - CHANCE}
BUDGET = Budget(p99_ms=5.0, rows_per_s=200.0, file_bytes=1 << 20, memory_bytes=1 << 30, fit_s=60.0)


def settings(home: Path) -> Settings:
    return Settings(home=home, domains=("assets_tests.operations.contest",), promote="never")


def assets(_settings: Settings) -> list[Asset]:
    contract = Contract(Payments, sort_by=("AT", "ROW_ID"), time="AT")
    raw = raw_table("raw/payments", contract, source="payments")
    exports = [export(name) for name in EXPORTED]
    return [raw, test_set, *(asset for name in PLAYERS for asset in player(name)), *exports]


def contenders(_settings: Settings) -> list[Contender]:
    columns = TestColumns("ROW_ID", "AT", "CARD", "FRAUD", slices=("KIND",), features=("CHANCE",))
    return [
        Contender(
            use=USE,
            model=name,
            predictions=f"{name}_predictions",
            evaluation=f"{name}_evaluation",
            test_set="test_set",
            columns=columns,
            load=slowly if name == "slow" or name in EXPORTED else at_once,
            export=f"{name}_export" if name in EXPORTED else "",
            budget=BUDGET,
            policy=Policy(slice_positives=20, replicates=200),
            looked_at=10,
        )
        for name in PLAYERS
    ]


def at_once(_files: Mapping[str, bytes]) -> Callable[[pl.DataFrame], Any]:
    return lambda rows: rows["CHANCE"].to_numpy()


def slowly(_files: Mapping[str, bytes]) -> Callable[[pl.DataFrame], Any]:
    """Over its budget on any machine: a quarter of a million numbers are sorted for each row."""
    numbers = pl.Series(random.Random(1).choices(range(1 << 40), k=250_000))
    return lambda rows: numbers.sort().head(rows.height)


@table("test_set", grain=Grain.WEEK, reads={"payments": Read("raw/payments", 0, 6)})
def test_set(payments: pl.LazyFrame) -> pl.LazyFrame:
    return payments


def player(name: str) -> list[Asset]:
    """A model that is its own description, and what it scores."""

    def fit(payments: pl.LazyFrame, parameters: Mapping[str, Any]) -> Produced:
        rows = payments.select(pl.len()).collect().item()
        checks = [
            CheckResult("only_the_past", name != "leaking", {}, "" if name != "leaking" else "it saw labels"),
            CheckResult("no_feature_like_a_label", name != "suspect"),
        ]
        files = {"model.json": json.dumps({"player": parameters["player"], "rows": rows})}
        return Produced(files_table(files), checks=checks)

    def score(model: pl.LazyFrame, tests: pl.LazyFrame) -> pl.LazyFrame:
        named = json.loads(file_in(model.collect(), "model.json"))["player"]
        return tests.select("ROW_ID", score=PLAYERS[named])

    def figures(scored: pl.LazyFrame) -> pl.LazyFrame:
        return scored.select(pl.len())

    week: dict[str, Any] = {"grain": Grain.WEEK}
    columns = {"name": Column(pl.String()), "content": Column(pl.Binary())}
    return [
        table(
            name,
            reads={"payments": Read("raw/payments", -7, -1)},
            parameters={"player": name},
            own_checks=CHECKS,
            columns=columns,
            **week,
        )(fit),
        table(f"{name}_predictions", reads={"model": same(name), "tests": same("test_set")}, **week)(score),
        table(f"{name}_evaluation", reads={"scored": same(f"{name}_predictions")}, **week)(figures),
    ]


def export(name: str) -> Asset:
    """A model as ONNX, compared with what it says itself."""

    def make(model: pl.LazyFrame, payments: pl.LazyFrame, parameters: Mapping[str, Any]) -> Produced:
        player = json.loads(file_in(model.collect(), "model.json"))["player"]
        rows = payments.select("CHANCE", day=pl.col("AT").dt.date(), key="ROW_ID").collect()
        return exported_model(
            chance_onnx(turned=parameters["turned"]),
            lambda features: features.select(PLAYERS[player].fill_null(0)).to_series().to_numpy(),
            rows,
            ["CHANCE"],
            10,
            {},
        )

    return table(
        f"{name}_export",
        grain=Grain.WEEK,
        reads={"model": same(name), "payments": Read("raw/payments", -7, -1)},
        parameters={"turned": name == "wrong_as_onnx"},
        own_checks=(PARITY_CHECK,),
    )(make)


def chance_onnx(*, turned: bool) -> bytes:
    """The only feature as the probability, or what it leaves to 1; 0 where it is missing."""
    shape = numpy_helper.from_array(np.array([-1]), "shape")
    one, zero = (numpy_helper.from_array(np.array(float(name == "one")), name) for name in ("one", "zero"))
    nodes = [
        helper.make_node("Reshape", ["features", "shape"], ["flat"]),
        helper.make_node("IsNaN", ["flat"], ["missing"]),
        helper.make_node("Where", ["missing", "zero", "flat"], ["known"]),
        helper.make_node("Sub", ["one", "known"], ["probability"])
        if turned
        else helper.make_node("Identity", ["known"], ["probability"]),
    ]
    inputs = [helper.make_tensor_value_info("features", TensorProto.DOUBLE, ["rows", 1])]
    outputs = [helper.make_tensor_value_info("probability", TensorProto.DOUBLE, ["rows"])]
    graph = helper.make_graph(nodes, "chance", inputs, outputs, [shape, one, zero])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return canonical_bytes(model)


def land_days(home: Path) -> None:
    """Land all days; the chances are drawn so that they have a mean of 0.15."""
    folder = home / "landing" / "payments"
    folder.mkdir(parents=True)
    draw = random.Random(7)
    for number in range(DAYS):
        day = FIRST + timedelta(days=number)
        rows = []
        for row in range(number * ROWS_A_DAY, (number + 1) * ROWS_A_DAY):
            chance = draw.choice((0.01, 0.04, 0.08, 0.17, 0.45))
            kind, fraud = int(draw.random() < 0.15), int(draw.random() < chance)
            rows.append(
                f"{row},{day} 12:00:00,{draw.randrange(300)},{kind},{chance},{'true' if fraud else 'false'}"
            )
        text = "\n".join(["ROW_ID,AT,CARD,KIND,CHANCE,FRAUD", *rows, ""])
        (folder / f"{day}.csv").write_text(text)
