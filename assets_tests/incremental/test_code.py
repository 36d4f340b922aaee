"""Code versions: what changes one and what does not, on modules that are written, imported and edited."""

import importlib
import importlib.metadata
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from my_platform.errors import PlatformError
from my_platform.features import declaration
from my_platform.incremental import analyses
from my_platform.incremental.code import code_version, forget_sources, parameters_text, reached_code
from my_platform.incremental.declare import Column

Write = Callable[..., Any]


class Project:
    """A package `shop` on disk that is imported anew after each edit."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, **modules: str) -> None:
        """Write modules of the package; `a__b` stands for a/b.py, `init` for __init__.py."""
        for name, source in modules.items():
            parts = ["__init__" if part == "init" else part for part in name.split("__")]
            path = self.folder.joinpath("shop", *parts).with_suffix(".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source)

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.folder / "shop" / f"{name}.py"
        source = path.read_text()
        assert old in source
        path.write_text(source.replace(old, new))

    def load(self, name: str) -> Any:
        """A name such as `assets.total`, as a new process would import it."""
        self.forget()
        forget_sources()
        return self.loaded(name)

    def loaded(self, name: str) -> Any:
        module, _, attribute = name.rpartition(".")
        return getattr(importlib.import_module(f"shop.{module}"), attribute)

    def version(self, name: str) -> str:
        return code_version(self.load(name))

    def reached(self, name: str) -> set[str]:
        return set(reached_code(self.load(name)))

    @staticmethod
    def forget() -> None:
        importlib.invalidate_caches()
        for name in [n for n in sys.modules if n.partition(".")[0] == "shop"]:
            del sys.modules[name]


@pytest.fixture(params=["nothing is kept", "analyses are kept"])
def project(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Project]:
    """A project in which what was found out about syntax is kept between loads, as between processes, or is not."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    kept = SimpleNamespace(version=sys.version, dont_write_bytecode=request.param == "nothing is kept")
    monkeypatch.setattr(analyses, "sys", kept)
    monkeypatch.syspath_prepend(str(tmp_path))
    forget_sources()
    yield Project(tmp_path)
    Project.forget()
    forget_sources()


TOTAL = '''
"""Totals."""
import polars as pl

RATE = 3

def scaled(column: str) -> pl.Expr:
    return pl.col(column) * RATE

def unrelated(x):
    return x + 1

def total(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Sum of the amounts."""
    # one row
    amounts = [scaled("amount"), scaled('fee')]
    return rows.select(pl.sum_horizontal(amounts).sum())
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("# one row", "# a single row", id="comment"),
        pytest.param("Sum of the amounts.", "The amounts, summed.", id="docstring"),
        pytest.param('"""Totals."""', "", id="docstring of the module"),
        pytest.param("scaled('fee')]", 'scaled(\n        "fee",\n    )\n    ]', id="formatting"),
        pytest.param("RATE = 3", "RATE = (0x3)", id="spelling of a number"),
        pytest.param("return x + 1", "return x + 2", id="unrelated function"),
        pytest.param("def unrelated", "import json\n\ndef another", id="unrelated names"),
        pytest.param("rows: pl.LazyFrame) -> pl.LazyFrame", "rows)", id="annotations"),
        pytest.param("amounts = [", "amounts: list[pl.Expr] = [", id="annotation of a local name"),
        pytest.param(
            "import polars as pl", "import polars as pl\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
            "    from decimal import Decimal", id="type-checking import",
        ),
    ],
)  # fmt: skip
def test_what_computes_nothing_changes_nothing(project: Project, old: str, new: str) -> None:
    project.write(assets=TOTAL)
    before = project.version("assets.total")
    project.edit("assets", old, new)
    assert project.version("assets.total") == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(".sum())", ".max())", id="its own body"),
        pytest.param("* RATE", "+ RATE", id="a helper"),
        pytest.param("RATE = 3", "RATE = 4", id="a constant of a helper"),
        pytest.param("RATE = 3", "RATE = 3\nRATE += 1", id="a constant that is changed later"),
        pytest.param("RATE = 3", "RATE = 3\nif RATE > 2:\n    RATE = 1", id="a condition"),
        pytest.param("def total(rows: pl.LazyFrame", "def total(rows: pl.LazyFrame, of='x'", id="a default"),
    ],
)
def test_what_computes_changes_the_version(project: Project, old: str, new: str) -> None:
    project.write(assets=TOTAL)
    before = project.version("assets.total")
    project.edit("assets", old, new)
    assert project.version("assets.total") != before


def test_a_change_reaches_exactly_its_users(project: Project) -> None:
    project.write(
        helpers="def day(x):\n    return x\n\ndef week(x):\n    return day(x) * 7\n\ndef month(x):\n    return x\n",
        assets=(
            "from shop.helpers import day, month, week\n"
            "def daily(x):\n    return day(x)\n\n"
            "def weekly(x):\n    return week(x)\n\n"
            "def monthly(x):\n    return month(x)\n\n"
            "def none(x):\n    return x\n"
        ),
    )
    names = ("daily", "weekly", "monthly", "none")
    before = {name: project.version(f"assets.{name}") for name in names}
    project.edit("helpers", "def day(x):\n    return x", "def day(x):\n    return -x")
    after = {name: project.version(f"assets.{name}") for name in names}
    assert {name for name in names if before[name] != after[name]} == {"daily", "weekly"}


USES = {
    "from import": "from shop.helpers import used\ndef total(x):\n    return used(x)",
    "from import as": "from shop.helpers import used as other\ndef total(x):\n    return other(x)",
    "from package import module": "from shop import helpers\ndef total(x):\n    return helpers.used(x)",
    "import as": "import shop.helpers as h\ndef total(x):\n    return h.used(x)",
    "import dotted": "import shop.helpers\ndef total(x):\n    return shop.helpers.used(x)",
    "relative": "from .helpers import used\ndef total(x):\n    return used(x)",
    "relative module": "from . import helpers\ndef total(x):\n    return helpers.used(x)",
    "star": "from shop.helpers import *\ndef total(x):\n    return used(x)",
    "local": "def total(x):\n    from shop.helpers import used\n    return used(x)",
    "local module": "def total(x):\n    import shop.helpers as h\n    return h.used(x)",
    "through another module": "from shop.again import used\ndef total(x):\n    return used(x)",
    "through a star elsewhere": "from shop.stars import used\ndef total(x):\n    return used(x)",
    "through the package": "import shop.package\ndef total(x):\n    return shop.package.inner.used(x)",
    "folder without __init__": "import shop.folder.leaf\ndef total(x):\n    return shop.folder.leaf.used(x)",
    "if it can be imported": (
        "try:\n    from shop.absent import used\nexcept ImportError:\n    from shop.helpers import used\n"
        "def total(x):\n    return used(x)"
    ),
    "as a value": "from shop.helpers import used\nSTEPS = [used]\ndef total(x):\n    return STEPS[0](x)",
    "in a default": "from shop.helpers import used\ndef total(x, step=used):\n    return step(x)",
    "in a comprehension": "from shop.helpers import used\ndef total(x):\n    return [used(y) for y in x]",
    "in a lambda": "from shop.helpers import used\ndef total(x):\n    return map(lambda y: used(y), x)",
    "as a decorator": "from shop.helpers import used\n@used\ndef total(x):\n    return x",
    "as a decorator of a helper": (
        "from shop.helpers import used\n@used\ndef helper(x):\n    return x\ndef total(x):\n    return helper(x)"
    ),
    "as a base class": "from shop.helpers import Used\nclass C(Used):\n    pass\ndef total(x):\n    return C().m(x)",
    "as an argument's class": "from shop.helpers import Used\ndef total(x: Used):\n    return x.m(x)",
    "as an argument's class, for type checkers": (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from shop.helpers import Used\n"
        "def total(x: 'Used'):\n    return x.m(x)"
    ),
    "beside a local name": (
        "from shop.helpers import used\ndef total(x):\n    def inner():\n        used = 1\n        return used\n"
        "    return used(x) + inner()"
    ),
    "beside a variable of a comprehension": (
        "from shop.helpers import used\ndef total(x):\n    return used([used for used in x])"
    ),
    "beside a local import": (
        "from shop.helpers import used\nclass C:\n    def a(self):\n        from shop.others import used\n"
        "        return used\n    def b(self, x):\n        return used(x)\ndef total(x):\n    return C().b(x)"
    ),
    "in one of two local imports": (
        "class C:\n    def a(self, x):\n        from shop.helpers import used\n        return used(x)\n"
        "    def b(self, x):\n        from shop.others import used\n        return used(x)\n"
        "def total(x):\n    return C().a(x)"
    ),
    "put into a table": "from shop.helpers import used\nT = {}\nT['a'] = used\ndef total(x):\n    return T['a'](x)",
    "put into a table by a call": (
        "from shop.helpers import used\nT = []\nT.append(used)\ndef total(x):\n    return T[0](x)"
    ),
    "put into a table by a loop": (
        "from shop.helpers import used\nT = {}\nfor n in 'ab':\n    T[n] = used\ndef total(x):\n    return T['a'](x)"
    ),
    "registered by a decorator": (
        "from shop.helpers import used\nclass R(list):\n    def add(self, f):\n        self.append(f)\n        return f\n"
        "registry = R()\n@registry.add\ndef step(x):\n    return used(x)\n"
        "def total(x):\n    return registry[0](x)"
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", USES)
def test_a_helper_counts_however_it_is_reached(project: Project, how: str) -> None:
    helpers = (
        "def used(x):\n    return x\n\n"
        "def unused(x):\n    return x\n\n"
        "class Used:\n    def m(self, x):\n        return used(x)\n"
    )
    project.write(
        init="",
        helpers=helpers,
        others="def used(x):\n    return x\n",
        again="from shop.helpers import used, unused\n",
        stars="from shop.again import *\n",
        package__init="from . import inner\n",
        package__inner=helpers,
        folder__leaf=helpers,
        assets=USES[how],
    )
    if how == "as an argument's class, for type checkers":
        project.edit("assets", "'Used'", "Used")
        project.edit("assets", "from typing", "from __future__ import annotations\nfrom typing")
    before = project.version("assets.total")
    for name in ("helpers", "package/inner", "folder/leaf"):
        project.edit(name, "def unused(x):\n    return x", "def unused(x):\n    return -x")
    assert project.version("assets.total") == before, "an unused helper counts"
    for name in ("helpers", "package/inner", "folder/leaf"):
        project.edit(name, "def used(x):\n    return x", "def used(x):\n    return x if x else x")
    assert project.version("assets.total") != before, "the used helper does not count"


NESTED = """
def helper(x):
    return x * 2

def other(x):
    return x * 3

def make(factor, step):
    def inner(rows, by=factor):
        return step(rows) * factor
    return inner

def recursive():
    def again(n):
        return again(n - 1) if n else 0
    return again

def counter():
    n = 0
    def up():
        nonlocal n
        n += 1
        return helper(n)
    return up

two = make(2, helper)
three = make(3, helper)
elsewhere = make(2, other)
down = recursive()
up = counter()
"""


def test_a_nested_function_counts_with_what_it_closes_over(project: Project) -> None:
    project.write(assets=NESTED)
    versions = {
        name: project.version(f"assets.{name}") for name in ("two", "three", "elsewhere", "down", "up")
    }
    assert len(set(versions.values())) == len(versions)
    project.edit("assets", "return x * 2", "return x * 20")
    after = {name: project.version(f"assets.{name}") for name in versions}
    assert {name for name in versions if after[name] != versions[name]} == {"two", "three", "up"}


@pytest.mark.parametrize(
    ("one", "other"),
    [("pl.Int64", "pl.Int32"), ("pl.col('a')", "pl.col('b')"), ("{1, 2}", "{1, 3}"), ("0.1", "0.2")],
)
def test_a_closed_over_value_counts(project: Project, one: str, other: str) -> None:
    source = (
        "import polars as pl\ndef make(value):\n    def inner(x):\n        return value\n    return inner\n"
    )
    project.write(assets=f"{source}\nmade = make({one})\nremade = make({other})\n")
    assert project.version("assets.made") != project.version("assets.remade")


def test_a_partial_counts_with_its_arguments(project: Project) -> None:
    project.write(
        assets="import functools\ndef f(x, k):\n    return x * k\n"
        "one = functools.partial(f, k=1)\ntwo = functools.partial(f, k=2)\n"
    )
    assert project.version("assets.one") != project.version("assets.two")
    assert "shop.assets:f" in project.reached("assets.one")


def test_a_method_counts_with_its_class(project: Project) -> None:
    project.write(
        assets="class Model:\n    def fit(self, x):\n        return self.k(x)\n    def k(self, x):\n        return x\n"
    )
    before = code_version(project.load("assets.Model").fit)
    project.edit("assets", "def k(self, x):\n        return x", "def k(self, x):\n        return -x")
    assert code_version(project.load("assets.Model").fit) != before


CONTRACT = """
import pandera.polars as pa
from my_platform.incremental.declare import Grain, same, table

class Model(pa.DataFrameModel):
    '''Rows.'''
    amount: int = pa.Field(ge=0, description="what was paid")

def helper(rows, group):
    return rows.with_columns(group=group)

@table("valid", reads={"raw": same("raw")}, description="the valid rows", group="x")
def valid(raw):
    return helper(Model.validate(raw), group=1)
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("what was paid", "amount"),
        ("the valid rows", "rows"),
        ('group="x"', 'group="y"'),
        ("'''Rows.'''", ""),
    ],
)
def test_what_the_catalogue_says_changes_nothing(project: Project, old: str, new: str) -> None:
    project.write(assets=CONTRACT)
    before = code_version(*project.load("assets.valid").code)
    project.edit("assets", old, new)
    assert code_version(*project.load("assets.valid").code) == before


@pytest.mark.parametrize(
    ("old", "new"), [("ge=0", "ge=1"), ("amount: int", "amount: float"), ("group=1", "group=2")]
)
def test_what_a_contract_or_a_call_says_changes_the_version(project: Project, old: str, new: str) -> None:
    project.write(assets=CONTRACT)
    before = code_version(*project.load("assets.valid").code)
    project.edit("assets", old, new)
    assert code_version(*project.load("assets.valid").code) != before


def test_circles_of_imports_and_calls_end(project: Project) -> None:
    project.write(
        init="",
        a="from shop.b import *\nfrom shop import b\ndef ping(x):\n    return pong(x)\n",
        b="from shop.a import *\nfrom shop import a\ndef pong(x):\n    return a.ping(x) or missing(x)\n",
    )
    assert project.reached("a.ping") == {"shop.a:ping", "shop.b:pong"}


def test_a_library_counts_by_its_version(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write(
        assets="import polars as pl\nimport numpy as np\n"
        "def one(x):\n    return pl.col(x)\n\ndef other(x):\n    return np.abs(x)\n"
    )
    before = {name: project.version(f"assets.{name}") for name in ("other", "one")}
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "99" if name == "polars" else real(name))
    assert code_version(project.loaded("assets.one")) == before["one"], (
        "a process reports what it was started with"
    )
    assert project.version("assets.one") != before["one"]
    assert project.version("assets.other") == before["other"]


@pytest.mark.parametrize(
    ("use", "library"),
    [
        ("from polars import *\ndef f():\n    return col('x')", "library:polars"),
        ("import sklearn.metrics\ndef f():\n    return sklearn.metrics.auc", "library:sklearn"),
        ("def f():\n    import lightgbm as lgb\n    return lgb.train", "library:lightgbm"),
        ("from google.protobuf import message\ndef f():\n    return message", "library:google"),
        ("import dateutil\ndef f():\n    return dateutil.tz", "library:dateutil"),
    ],
)
def test_libraries_are_found_however_they_are_named(project: Project, use: str, library: str) -> None:
    project.write(assets=use)
    assert reached_code(project.load("assets.f"))[library]


def test_the_standard_library_and_platform_declarations_do_not_count(project: Project) -> None:
    project.write(
        assets="import json\nimport math\nfrom my_platform.incremental.declare import Produced\n"
        "def f(x):\n    return Produced(json.loads(x), math.pi)\n"
    )
    assert project.reached("assets.f") == {"shop.assets:f"}


@pytest.mark.parametrize("when", ["after its definition", "after its version was asked for"])
def test_an_edit_on_disk_does_not_change_what_a_process_reports(project: Project, when: str) -> None:
    source = (
        "from my_platform.incremental.declare import same, table\nfrom shop import helpers\n"
        "@table('x', reads={'raw': same('raw')})\ndef x(raw):\n    return helpers.f(raw)\n"
    )
    project.write(assets=source, helpers="def f(x):\n    return x\n")
    expected = code_version(*project.load("assets.x").code)
    asset = project.load("assets.x")
    if when == "after its version was asked for":
        assert code_version(*asset.code) == expected
    project.edit("helpers", "return x", "return -x")
    project.edit("assets", "helpers.f(raw)", "helpers.f(raw) * 2")
    assert code_version(*asset.code) == expected
    assert code_version(*project.load("assets.x").code) != expected


def test_a_module_that_is_imported_later_counts_as_it_was_then(project: Project) -> None:
    project.write(
        assets="def f(x):\n    from shop import late\n    return late.g(x)\n",
        late="def g(x):\n    return x\n",
    )
    function = project.load("assets.f")
    first = code_version(function)
    project.edit("late", "return x", "return -x")
    function(1)
    second = code_version(function)
    project.edit("late", "return -x", "return 2 * x")
    assert code_version(function) == second != first


def test_a_version_is_the_same_in_every_process_and_folder(project: Project, tmp_path: Path) -> None:
    project.write(init="", assets=TOTAL)
    here = project.version("assets.total")
    moved = tmp_path / "moved to"
    moved.mkdir()
    (tmp_path / "shop").rename(moved / "shop")
    code = "from my_platform.incremental.code import code_version; from shop.assets import total; print(code_version(total))"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(moved)!r}); {code}"],
        capture_output=True, text=True, timeout=60, check=True, env={"PYTHONHASHSEED": "7"},
    )  # fmt: skip
    assert done.stdout.strip() == here


@pytest.mark.parametrize("make", ["lambda x: x", "type('Made', (), {})", "namespace['f']"])
def test_a_definition_without_source_is_refused(project: Project, make: str) -> None:
    project.write(assets=f"namespace = {{}}\nexec('def f(x):\\n    return x', namespace)\nf = {make}\n")
    with pytest.raises(PlatformError, match=r"cannot be found.*define it in a module"):
        project.version("assets.f")


def test_a_callable_object_is_refused(project: Project) -> None:
    project.write(assets="class C:\n    def __call__(self, x):\n        return x\nf = C()\n")
    with pytest.raises(PlatformError, match="is a C, which has no code version"):
        project.version("assets.f")


def test_a_closed_over_object_without_a_plain_form_is_named(project: Project) -> None:
    project.write(
        assets="def make(lock):\n    def inner(x):\n        return lock\n    return inner\nf = make(object())\n"
    )
    with pytest.raises(PlatformError, match=r"make\.<locals>\.inner closes over `lock`, a object"):
        project.version("assets.f")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": pl.col("x") + 1}, {"a": pl.col("x") + 2}),
        ({"a": pl.Int64}, {"a": pl.Int32}),
        ({"a": {1, 2}}, {"a": {1, 2, 3}}),
        ({"a": declaration.count(days=7)}, {"a": declaration.count(days=8)}),
        ({"a": 1}, {"b": 1}),
    ],
)
def test_other_parameters_have_another_text(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    assert parameters_text(one) == parameters_text(dict(one))
    assert parameters_text(one) != parameters_text(other)


def test_the_order_of_parameters_and_what_the_catalogue_says_do_not_count() -> None:
    assert parameters_text({"a": 1, "b": {2, 3}}) == parameters_text({"b": {3, 2}, "a": 1})
    assert parameters_text({"c": Column(pl.Int64(), "a")}) == parameters_text({"c": Column(pl.Int64(), "b")})


def test_a_parameter_without_a_plain_form_is_refused() -> None:
    with pytest.raises(PlatformError, match="object has no plain form"):
        parameters_text({"a": object()})
