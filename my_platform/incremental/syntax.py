"""What of a statement computes: its normal form, and the names that it reads.

The normal form has no comments, docstrings and formatting, no annotations in functions, and nothing that only
the catalogue shows.
"""

import ast
import symtable
from collections.abc import Iterator, Sequence
from typing import Any

from my_platform.incremental.analyses import Analysed
from my_platform.incremental.sources import Module, bound_names, resolved

# Modules that say what an asset is, and handle no rows: reaching them adds nothing.
DECLARATIONS = ("my_platform.incremental.declare", "my_platform.incremental.checks", "my_platform.errors")
# In calls of these, and in their values, what the catalogue says does not count.
CATALOGUE_KEYWORDS = frozenset({"description", "owners", "tags", "kinds", "group"})
CATALOGUED = (
    *DECLARATIONS,
    "my_platform.features.assets",
    "my_platform.features.declaration",
    "my_platform.quality.contracts",
    "my_platform.quality.tables",
    "pandera",
    "dagster",
)


def analyse(module: Module, statement: ast.stmt) -> Analysed:
    """What counts of a statement of a module."""
    found = module.analysed.get(id(statement))
    if found is None:
        found = module.kept.get(statement)
        if found is None:
            found = _analysed(module, statement)
            module.kept.put(statement, found)
        module.analysed[id(statement)] = found
    return found


def _analysed(module: Module, statement: ast.stmt) -> Analysed:
    normal = _normalised(module, statement)
    text = ast.unparse(normal)
    imports: dict[str, list[ast.Import | ast.ImportFrom]] = {}
    for node in ast.walk(normal):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for bound in bound_names(node):
                imports.setdefault(bound, []).append(node)
    names = _outer_names(text)
    chains = [chain for chain in _chains(normal) if chain[0] in names]
    for node in ast.walk(statement):
        if isinstance(node, ast.arg) and node.annotation is not None:
            chains += _chains(node.annotation)
    return Analysed(
        text,
        list(dict.fromkeys(chains)),
        [(node, chain) for chain in dict.fromkeys(_chains(normal)) for node in imports.get(chain[0], ())],
    )


def _outer_names(text: str) -> set[str]:
    """The names that a statement reads from its module: those that some scope within it does not bind."""
    try:
        table = symtable.symtable(text, "<asset>", "exec")
    except SyntaxError:  # a `nonlocal` whose function is not part of the text
        return {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
    names = {symbol.get_name() for symbol in table.get_symbols()}
    todo = table.get_children()
    while todo:
        scope = todo.pop()
        todo.extend(scope.get_children())
        # The body of a class reads a name of the module until it has bound one of its own.
        in_class = scope.get_type() == "class"
        names |= {
            s.get_name() for s in scope.get_symbols() if s.is_global() or (in_class and s.is_referenced())
        }
    return names


def _chains(statement: ast.AST) -> Iterator[tuple[str, ...]]:
    """Every name that is read, with the attributes that follow it."""
    todo: list[ast.AST] = [statement]
    while todo:
        node = todo.pop()
        attributes: list[str] = []
        while isinstance(node, ast.Attribute):
            attributes.append(node.attr)
            node = node.value
        if isinstance(node, ast.Name):
            yield (node.id, *reversed(attributes))
        else:
            todo.extend(ast.iter_child_nodes(node))


class _Normaliser(ast.NodeTransformer):
    """Leaves what computes: no docstrings, no annotations in functions, nothing for the catalogue."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.in_function = False

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> Any:
        return self._function(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> Any:
        return self._body(node, in_function=False)

    def visit_arg(self, node: ast.arg) -> Any:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        self.generic_visit(node)
        if not self.in_function:
            return node
        if node.value is None:
            node.annotation = ast.Constant(None)
            return node
        return ast.Assign([node.target], node.value)

    def visit_Call(self, node: ast.Call) -> Any:
        self.generic_visit(node)
        if any(k.arg in CATALOGUE_KEYWORDS for k in node.keywords) and self._from(node.func, CATALOGUED):
            node.keywords = [k for k in node.keywords if k.arg not in CATALOGUE_KEYWORDS]
        return node

    def _function(self, node: Any) -> Any:
        node.returns = None
        node.decorator_list = [d for d in node.decorator_list if not self._from(d, DECLARATIONS)]
        return self._body(node, in_function=True)

    def _body(self, node: Any, *, in_function: bool) -> Any:
        outer, self.in_function = self.in_function, in_function
        self.generic_visit(node)
        self.in_function = outer
        first = node.body[0] if node.body else None
        if (
            isinstance(first, ast.Expr)
            and isinstance(first.value, ast.Constant)
            and isinstance(first.value.value, str)
        ):
            node.body = node.body[1:] or [ast.Pass()]
        return node

    def _from(self, called: ast.expr, modules: Sequence[str]) -> bool:
        """Whether what is called is defined in one of these modules or packages."""
        while isinstance(called, ast.Call):
            called = called.func
        names: list[str] = []
        while isinstance(called, ast.Attribute):
            names.append(called.attr)
            called = called.value
        if not isinstance(called, ast.Name):
            return False
        origin = ".".join([_origin(self.module, called.id), *reversed(names)])
        return any(origin.startswith(f"{module}.") for module in modules)


def _origin(module: Module, name: str) -> str:
    """The dotted path of a module's name, as the import says it that binds it."""
    for node in module.bindings.get(name, ()):
        if isinstance(node, ast.ImportFrom):
            original = next(a.name for a in node.names if (a.asname or a.name) == name)
            return f"{resolved(module, node)}.{original}"
        if isinstance(node, ast.Import):
            return next((a.name for a in node.names if a.asname == name), name)
    return f"{module.name}.{name}"


def _normalised(module: Module, statement: ast.stmt) -> ast.stmt:
    copy = ast.parse(ast.unparse(statement)).body[0]
    result = _Normaliser(module).visit(copy)
    assert isinstance(result, ast.stmt)
    return ast.fix_missing_locations(result)
