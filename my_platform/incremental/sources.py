"""Source of a project's modules, as it was when they were imported, and what each statement binds.

A module belongs to a project unless it comes from the standard library or an installed package. Its source is
read once for each import, so that an edit on disk is seen when the module is imported again and not before.
"""

import ast
import contextlib
import functools
import importlib.machinery
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from my_platform.errors import PlatformError
from my_platform.incremental.analyses import Analysed, Analyses

_OWN = "my_platform"


@dataclass
class Module:
    """A parsed module.

    Attributes:
        spec: tells one import of the module from another.
        bindings: the statements that bind or change each of its names, in order.
        analysed: what is known of its statements, by identity.
        kept: what an earlier process found out about them.
    """

    name: str
    package: str
    spec: Any
    tree: ast.Module
    kept: Analyses
    bindings: dict[str, list[ast.stmt]] = field(default_factory=dict)
    analysed: dict[int, Analysed] = field(default_factory=dict)


_modules: dict[str, Module | None] = {}
# Bytes of modules as they were read, by name, with the spec of the import they belong to.
_sources: dict[str, tuple[Any, bytes]] = {}
# Modules that were looked at once; of these only project modules can come anew.
_looked_at: set[str] = set()


def keep_sources() -> None:
    """Read the source of each project module that was imported since this was called last."""
    for name in [*(sys.modules.keys() - _looked_at), *_sources]:
        about: dict[str, Any] = getattr(sys.modules.get(name), "__dict__", {})
        spec, file = about.get("__spec__"), about.get("__file__")
        _looked_at.add(name)
        if file is not None and _is_project(name, file):
            with contextlib.suppress(OSError):
                _source(name, spec, file)


def keep_analyses() -> None:
    """Keep what this process found out about statements, for the next one."""
    for module in _modules.values():
        if module is not None:
            module.kept.keep()


def forget_sources() -> None:
    """Read sources anew, for modules that are still loaded too."""
    for cache in (_modules, _sources, _looked_at):
        cache.clear()
    is_library.cache_clear()


def load(name: str) -> Module | None:
    """The parsed module if it belongs to a project, that is, does not come from an installed library."""
    known = _modules.get(name)
    spec = getattr(sys.modules.get(name), "__spec__", None)
    if name not in _modules or (known is not None and spec is not None and spec is not known.spec):
        _modules[name] = _parse(name)
    return _modules[name]


@functools.cache
def is_library(top: str) -> bool:
    """Whether a top-level package is no part of a project."""
    if top in sys.stdlib_module_names:
        return True
    module = sys.modules.get(top)
    file = getattr(module, "__file__", None) if module is not None else None
    if file is not None:
        return not _is_project(top, file)
    spec = importlib.machinery.PathFinder.find_spec(top)
    if spec is None:
        return True
    places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or ())
    return any(_is_installed(place) for place in places) or bool(
        spec.origin and not _is_project(top, spec.origin)
    )


def is_module(dotted: str) -> bool:
    """Whether a project has a module or a folder of modules of that name."""
    return load(dotted) is not None or _find_spec(dotted) is not None


def defines(module: Module, name: str, asked: tuple[str, ...] = ()) -> bool:
    """Whether a module binds a name itself or by a star import from another project module."""
    if name in module.bindings:
        return True
    for star in module.bindings.get("*", ()):
        assert isinstance(star, ast.ImportFrom)
        source = load(resolved(module, star))
        if source is not None and source.name not in asked and defines(source, name, (*asked, module.name)):
            return True
    return False


def resolved(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    base = module.package.split(".")
    base = base[: len(base) - (node.level - 1)]
    return ".".join([*base, *([node.module] if node.module else [])])


def bound_names(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    for alias in node.names:
        if isinstance(node, ast.Import):
            yield alias.asname or alias.name.partition(".")[0]
        else:
            yield alias.asname or alias.name


def _parse(name: str) -> Module | None:
    if name.partition(".")[0] in sys.stdlib_module_names:
        return None
    module = sys.modules.get(name)
    if module is not None:
        file, package = getattr(module, "__file__", None), module.__package__ or ""
        spec = module.__spec__
    else:
        spec = _find_spec(name)
        if spec is None:
            return None
        file = spec.origin
        package = name if spec.submodule_search_locations is not None else name.rpartition(".")[0]
    if file is None or not _is_project(name, file):
        return None
    source = _source(name, spec, file)
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise PlatformError(f"{file} cannot be parsed ({error}); correct it and start again") from error
    parsed = Module(name, package, spec, tree, Analyses(name, package, file, source))
    for bound, statement in _bindings(tree.body):
        parsed.bindings.setdefault(bound, []).append(statement)
    for bound, statement in _decorated(tree.body):
        found = parsed.bindings.get(bound)
        if found and not isinstance(found[0], ast.Import | ast.ImportFrom):
            found.append(statement)
    return parsed


def _source(name: str, spec: Any, file: str) -> bytes:
    kept = _sources.get(name)
    if kept is None or kept[0] is not spec:
        kept = _sources[name] = (spec, Path(file).read_bytes())
    return kept[1]


def _find_spec(name: str) -> importlib.machinery.ModuleSpec | None:
    """Where a module that is not imported lies, without importing its packages."""
    path: Sequence[str] | None = None
    spec = None
    for depth in range(name.count(".") + 1):
        part = ".".join(name.split(".")[: depth + 1])
        if part in sys.modules and part != name:
            path = getattr(sys.modules[part], "__path__", None)
            if path is None:
                return None
            continue
        spec = importlib.machinery.PathFinder.find_spec(part, path)
        if spec is None or (spec.origin and not _is_project(part, spec.origin)):
            return None
        path = spec.submodule_search_locations
        if path is None and depth < name.count("."):
            return None
    return spec


def _is_project(name: str, file: str) -> bool:
    if name.partition(".")[0] in sys.stdlib_module_names or not file.endswith(".py"):
        return False
    return name.partition(".")[0] == _OWN or not _is_installed(file)


def _is_installed(file: str) -> bool:
    return any(part in ("site-packages", "dist-packages") for part in Path(file).parts)


def _bindings(body: Sequence[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    """The names that top-level statements bind or change, each with the statement."""
    for statement in body:
        if isinstance(statement, ast.If):
            both = [*statement.body, *statement.orelse]
            if _is_type_checking(statement.test):
                yield from _bindings(both)
            else:
                yield from _conditional(statement.test, both)
        elif isinstance(statement, ast.Try):
            yield from _bindings(statement.body)
            yield from _bindings(statement.orelse)
            yield from _bindings(statement.finalbody)
            for handler in statement.handlers:
                yield from _bindings(handler.body)
        elif isinstance(statement, ast.With):
            for item in statement.items:
                for name in _targets(item.optional_vars) if item.optional_vars else ():
                    yield name, _expression(item.context_expr)
            yield from _bindings(statement.body)
        else:
            for name in dict.fromkeys(_changed(statement)):
                yield name, statement


def _conditional(test: ast.expr, body: Sequence[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    """What a condition decides depends on it, too."""
    found = list(_bindings(body))
    yield from found
    condition = _expression(test)
    for name in dict.fromkeys(name for name, statement in found):
        if name != "*":
            yield name, condition


def _expression(value: ast.expr) -> ast.stmt:
    return ast.copy_location(ast.Expr(value), value)


def _is_type_checking(test: ast.expr) -> bool:
    return ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _changed(statement: ast.stmt) -> Iterator[str]:
    """The names that a statement binds, or whose objects it changes in plain sight."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
        return
    if isinstance(statement, ast.Import | ast.ImportFrom):
        yield from bound_names(statement)
        return
    for node in ast.walk(statement):
        if isinstance(node, ast.Assign | ast.Delete):
            for target in node.targets:
                yield from _targets(target)
        elif isinstance(node, ast.AnnAssign | ast.AugAssign | ast.For | ast.AsyncFor | ast.NamedExpr):
            yield from _targets(node.target)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from bound_names(node)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            if isinstance(node.value.func, ast.Attribute):
                yield from _targets(node.value.func)
            for argument in node.value.args:
                yield from _targets(argument)


def _decorated(body: Sequence[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    """Definitions by the object whose method decorates them, which may keep them: ``@registry.add``."""
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            for decorator in statement.decorator_list:
                called = decorator.func if isinstance(decorator, ast.Call) else decorator
                if isinstance(called, ast.Attribute):
                    for name in _targets(called):
                        yield name, statement


def _targets(target: ast.expr) -> Iterator[str]:
    """The names at the root of an assignment's target: ``a`` of ``a.b[c]``, all of a tuple."""
    if isinstance(target, ast.Name):
        yield target.id
    elif isinstance(target, ast.Attribute | ast.Subscript | ast.Starred):
        yield from _targets(target.value)
    elif isinstance(target, ast.Tuple | ast.List):
        for element in target.elts:
            yield from _targets(element)
