"""Code versions that nobody types: a digest of the syntax that a partition's function reaches.

Starting from an asset's function, every project function, class and constant that it names is followed, in
its own and in other project modules; so are its decorators, and the classes that annotate its arguments,
whose methods it may call. Comments, docstrings, formatting, annotations and unrelated definitions in the same
file do not count; the installed version of each third-party library that is reached does.

Sources are read when an asset is defined, that is, while its module is being imported, and kept for as long
as the module stays loaded: a later edit on disk does not change the version that a running process reports.

What cannot be seen: names that are looked up at run time (``getattr``, ``globals()``), values that another
module or function puts into a module's objects, and files.
"""

import ast
import builtins
import datetime
import enum
import functools
import hashlib
import importlib.metadata
import inspect
import json
import sys
from collections.abc import Mapping, Sequence
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from my_platform.errors import PlatformError
from my_platform.incremental import sources
from my_platform.incremental.sources import (
    Module,
    defines,
    is_library,
    is_module,
    keep_analyses,
    keep_sources,
    load,
    resolved,
)
from my_platform.incremental.syntax import CATALOGUE_KEYWORDS, CATALOGUED, DECLARATIONS, analyse

_DISTRIBUTIONS = {"sklearn": "scikit-learn", "yaml": "PyYAML"}


def code_version(*roots: Any, parameters: Mapping[str, Any] | None = None) -> str:
    """The digest of all code that the roots reach, with the versions of the libraries it uses.

    Args:
        roots: functions or classes of the project.
        parameters: plain JSON values that count as well.

    Raises:
        PlatformError: a root's source cannot be found, or a closure holds a value without a plain form.
    """
    parts = reached_code(*roots)
    if parameters:
        parts["parameters"] = json.dumps(parameters, sort_keys=True, default=_plain)
    digest = hashlib.sha256()
    for name in sorted(parts):
        for text in (name, parts[name]):
            data = text.encode()
            digest.update(len(data).to_bytes(8, "little"))
            digest.update(data)
    return digest.hexdigest()[:16]


def reached_code(*roots: Any) -> dict[str, str]:
    """Normalised source by ``module:name``, and library versions by ``library:name``, that the roots reach."""
    keep_sources()
    reach = _Reach()
    for root in roots:
        reach.add_object(root)
    keep_analyses()
    return reach.parts


class _Reach:
    def __init__(self) -> None:
        self.parts: dict[str, str] = {}
        self._followed: set[tuple[str, ...]] = set()

    def add_object(self, root: Any) -> None:
        """Follow a function or a class, nested ones and their closures included."""
        if isinstance(root, functools.partial):
            self.add_object(root.func)
            self._value(_name_of(root.func), "arguments", [list(root.args), root.keywords])
            return
        if callable(root) and not isinstance(root, type):
            root = inspect.unwrap(root)
        if isinstance(root, MethodType):
            self.add_object(root.__self__ if isinstance(root.__self__, type) else type(root.__self__))
            root = root.__func__
        if isinstance(root, BuiltinFunctionType):
            self._library((root.__module__ or "builtins").partition(".")[0])
            return
        if not isinstance(root, FunctionType | type):
            raise PlatformError(
                f"{root!r} is a {type(root).__name__}, which has no code version; give a function or a class"
            )
        if not root.__module__:
            raise _no_source(root)
        module = load(root.__module__)
        if module is None:
            if root.__module__ == "__main__" or not is_library(root.__module__.partition(".")[0]):
                raise _no_source(root)
            self._library(root.__module__.partition(".")[0])
            return
        if "<locals>" in root.__qualname__:
            self._add_local(module, root)
            return
        outermost = root.__qualname__.partition(".")[0]
        if outermost not in module.bindings:
            raise _no_source(root)
        self.add_name(module, outermost)

    def _add_local(self, module: Module, root: FunctionType | type) -> None:
        """A function or class that was defined within a function, with what it closes over."""
        key = f"{module.name}:{root.__qualname__}"
        if key in self.parts:
            return
        self._statement(module, key, _nested(module, root))
        if isinstance(root, FunctionType):
            for name, cell in zip(root.__code__.co_freevars, root.__closure__ or (), strict=True):
                try:
                    value = cell.cell_contents
                except ValueError:
                    continue
                self._value(key, name, value)
            for number, value in enumerate(root.__defaults__ or ()):
                self._value(key, f"default {number}", value)
            for name, value in (root.__kwdefaults__ or {}).items():
                self._value(key, name, value)

    def _value(self, owner: str, name: str, value: Any) -> None:
        if isinstance(value, FunctionType | MethodType | BuiltinFunctionType | functools.partial | type):
            self.parts[f"{owner}:{name}"] = _name_of(value)
            self.add_object(value)
        elif isinstance(value, ModuleType):
            self._attribute(value.__name__, ())
        else:
            try:
                self.parts[f"{owner}:{name}"] = json.dumps(value, sort_keys=True, default=_plain)
            except TypeError as error:
                raise PlatformError(
                    f"{owner} closes over `{name}`, a {type(value).__name__} that cannot be part of a code "
                    "version; pass it as a parameter made of plain values"
                ) from error

    def add_name(self, module: Module, name: str, attributes: Sequence[str] = ()) -> None:
        """Follow a name of a module, and where it is an import, the attributes that are read of it."""
        if module.name in DECLARATIONS or not self._first_time("name", module.name, name, *attributes):
            return
        statements = module.bindings.get(name)
        if statements is None:
            self._star_imported(module, name, attributes)
            return
        for position, statement in enumerate(statements):
            if isinstance(statement, ast.Import | ast.ImportFrom):
                self._import(module, statement, name, attributes)
                continue
            key = f"{module.name}:{name}" if position == 0 else f"{module.name}:{name}#{position}"
            if key not in self.parts:
                self._statement(module, key, statement)

    def _star_imported(self, module: Module, name: str, attributes: Sequence[str]) -> None:
        for star in module.bindings.get("*", ()):
            assert isinstance(star, ast.ImportFrom)
            source = load(resolved(module, star))
            if source is not None:
                self.add_name(source, name, attributes)
            elif not hasattr(builtins, name):
                self._library(resolved(module, star).partition(".")[0])

    def _statement(self, module: Module, key: str, statement: ast.stmt) -> None:
        analysed = analyse(module, statement)
        self.parts[key] = analysed.text
        for node, (name, *attributes) in analysed.imported:
            self._import(module, node, name, attributes)
        for name, *attributes in analysed.outer:
            self.add_name(module, name, attributes)

    def _import(
        self, module: Module, node: ast.Import | ast.ImportFrom, name: str, attributes: Sequence[str]
    ) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if (alias.asname or alias.name.partition(".")[0]) == name:
                    self._attribute(alias.name if alias.asname else name, attributes)
            return
        source_name = resolved(module, node)
        for alias in node.names:
            if alias.name == "*" == name:
                self._attribute(source_name, ())
            elif (alias.asname or alias.name) != name:
                continue
            elif source_name == module.name and is_module(f"{source_name}.{alias.name}"):
                self._attribute(f"{source_name}.{alias.name}", attributes)
            else:
                self._attribute(source_name, [alias.name, *attributes])

    def _attribute(self, dotted: str, attributes: Sequence[str]) -> None:
        """What ``dotted.attribute.attribute…`` names, where ``dotted`` is a module."""
        top = dotted.partition(".")[0]
        if is_library(top):
            self._library(top)
            return
        module = load(dotted)
        if module is not None and module.name in DECLARATIONS:
            return
        if module is not None and attributes and defines(module, attributes[0]):
            self.add_name(module, attributes[0], attributes[1:])
        elif attributes and is_module(f"{dotted}.{attributes[0]}"):
            self._attribute(f"{dotted}.{attributes[0]}", attributes[1:])
        elif module is not None:
            self._whole(module)
        else:
            self._library(top)

    def _whole(self, module: Module) -> None:
        if self._first_time("whole", module.name):
            for name in list(module.bindings):
                if name != "*":
                    self.add_name(module, name)
            for star in module.bindings.get("*", ()):
                assert isinstance(star, ast.ImportFrom)
                self._attribute(resolved(module, star), ())

    def _first_time(self, *what: str) -> bool:
        new = what not in self._followed
        self._followed.add(what)
        return new

    def _library(self, name: str) -> None:
        if name in sys.stdlib_module_names:
            return
        version = _library_version(name)
        if version is not None:
            self.parts[f"library:{name}"] = version


@functools.cache
def _library_version(name: str) -> str | None:
    try:
        return importlib.metadata.version(_DISTRIBUTIONS.get(name, name))
    except importlib.metadata.PackageNotFoundError:
        found = {
            distribution: importlib.metadata.version(distribution)
            for distribution in importlib.metadata.packages_distributions().get(name, ())
        }
        return json.dumps(found, sort_keys=True) if found else None


def _nested(module: Module, root: FunctionType | type) -> ast.stmt:
    """The statement of a definition inside a function, found by name and, for functions, line."""
    line = root.__code__.co_firstlineno if isinstance(root, FunctionType) else None
    found = [
        node
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and node.name == root.__name__
    ]
    for node in found:
        first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
        if first == line:
            return node
    if len(found) == 1:
        return found[0]
    raise _no_source(root)


def _no_source(root: FunctionType | type) -> PlatformError:
    return PlatformError(
        f"the source of {_name_of(root)} cannot be found, so it has no code version; define it in a module, "
        "with `def` or `class`"
    )


def _name_of(root: Any) -> str:
    return f"{getattr(root, '__module__', '')}.{getattr(root, '__qualname__', repr(root))}"


def _plain(value: Any) -> Any:
    """A plain form for values that JSON does not know."""
    import polars as pl

    if isinstance(value, pl.Expr):
        return {"expr": json.loads(value.meta.serialize(format="json"))}
    if isinstance(value, pl.DataType):
        return {"dtype": str(value)}
    if isinstance(value, type) and issubclass(value, pl.DataType):
        return {"dtype": str(value())}
    if isinstance(value, datetime.date | datetime.datetime | datetime.timedelta):
        return str(value)
    if isinstance(value, enum.Enum):
        return {"enum": f"{type(value).__qualname__}.{value.name}", "value": value.value}
    if isinstance(value, set | frozenset):
        return {"set": sorted(json.dumps(v, sort_keys=True, default=_plain) for v in value)}
    if hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
        left_out = CATALOGUE_KEYWORDS if type(value).__module__ in CATALOGUED else ()
        return {
            "type": type(value).__qualname__,
            **{n: getattr(value, n) for n in value.__dataclass_fields__ if n not in left_out},
        }
    raise TypeError(f"{type(value).__name__} has no plain form")


def parameters_text(parameters: Mapping[str, Any]) -> str:
    """Canonical JSON of parameters, expressions and types included.

    Raises:
        PlatformError: a value has no plain form.
    """
    try:
        return json.dumps(parameters, sort_keys=True, separators=(",", ":"), default=_plain)
    except TypeError as error:
        raise PlatformError(f"a parameter cannot be part of a fingerprint: {error}") from error


def forget_sources() -> None:
    """Read sources and library versions anew, for modules that are still loaded too."""
    sources.forget_sources()
    _library_version.cache_clear()
