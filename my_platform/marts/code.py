"""What counts as the code of a mart: all in the dbt project that can change its rows, and its tests.

dbt's own macros count by dbt's version. A macro counts where it is reached, through other macros too; one
that replaces a macro of dbt, or is a materialization, counts for every mart. A var counts by its value
where its name is written, and all vars do where a name is computed.
"""

import functools
import importlib.metadata
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from my_platform.marts.errors import MartError
from my_platform.marts.normal_form import normal_form, without_strings

VARS_IN_MANIFEST = "MY_PLATFORM_VARS"

_BUILT_IN = ("dbt", "dbt_duckdb")
_ENGINES = ("dbt-core", "dbt-duckdb", "duckdb")
# Where a table lies and how it is shown; the meta of the platform counts through what is read.
_CONFIG_WITHOUT_ROWS = frozenset(
    (
        *("access", "alias", "database", "docs", "enabled", "grants", "group", "meta"),
        *("persist_docs", "quoting", "schema", "static_analysis", "tags"),
    )
)
_HOOKS = ("pre-hook", "post-hook")
_VAR = re.compile(r"\bvar(?:\.has_var)?\((?:(['\"])(.*?)\1)?")
_UNREPEATABLE = re.compile(
    r"\b(?:env_var|now|today|random|uuid|uuidv4|uuidv7|gen_random_uuid|get_current_timestamp)\("
    r"|\b(?:current_date|current_time|current_timestamp|localtime|localtimestamp)\b"
    r"|\b(?:run_started_at|invocation_id|modules\.datetime|tablesample|using sample)\b",
    re.IGNORECASE,
)


class CodeIndex:
    """Looks up in a dbt manifest what a model's code reaches."""

    def __init__(self, manifest: Mapping[str, Any], vars: Mapping[str, Any]) -> None:
        self._macros: dict[str, dict[str, Any]] = manifest["macros"]
        self._project: str = manifest["metadata"]["project_name"]
        self._vars = {**_project_vars(manifest["metadata"], self._project), **vars}
        own = {key: macro for key, macro in self._macros.items() if macro["package_name"] not in _BUILT_IN}
        self._own = own
        self._by_name: dict[str, list[str]] = {}
        for key, macro in own.items():
            self._by_name.setdefault(macro["name"], []).append(key)
        names = "|".join(map(re.escape, sorted(self._by_name)))
        self._calls = re.compile(rf"\b({names})\(") if names else None
        built_in = {m["name"] for m in self._macros.values() if m["package_name"] in _BUILT_IN}
        self._everywhere = [
            key
            for key, macro in own.items()
            if macro["name"].startswith("materialization_") or macro["name"].split("__", 1)[-1] in built_in
        ]

    def of(
        self, model: Mapping[str, Any], steps: Sequence[Mapping[str, Any]], tests: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        """The code of a mart as plain values.

        Raises:
            MartError: it calls what gives another value each time, such as the clock.
        """
        nodes = (model, *steps, *tests)
        code: dict[str, Any] = {
            "sql": normal_form(model["raw_code"]),
            "config": _config(model),
            "steps": {
                step["name"]: {"sql": normal_form(step["raw_code"]), "config": _config(step)}
                for step in steps
            },
            "tests": sorted((_test_code(test) for test in tests), key=_canonical),
            "macros": {key: normal_form(self._own[key]["macro_sql"]) for key in self._reached(nodes)},
            "engines": {name: _installed(name) for name in _ENGINES},
        }
        for text in _texts(code):
            found = _UNREPEATABLE.search(without_strings(text))
            if found:
                raise MartError(
                    f"mart {model['name']} reaches {found.group()!r}, whose value is another each time; "
                    f"take the value from an input's column or from a var"
                )
        return {**code, "vars": self._vars_in(code)}

    def _reached(self, nodes: Sequence[Mapping[str, Any]]) -> list[str]:
        """The project's macros that nodes call, as dbt says and as the text shows, in order."""
        waiting = [*self._everywhere]
        for node in nodes:
            waiting += node["depends_on"]["macros"]
            for text in (node["raw_code"], *_texts([node["config"].get(hook) for hook in _HOOKS])):
                waiting += self._called_in(text)
        found: set[str] = set()
        while waiting:
            key = waiting.pop()
            if key in found or key not in self._macros:
                continue
            found.add(key)
            macro = self._macros[key]
            waiting += macro["depends_on"]["macros"]
            if key in self._own:
                waiting += self._called_in(macro["macro_sql"])
        return sorted(found & self._own.keys())

    def _called_in(self, text: str) -> list[str]:
        called = self._calls.findall(normal_form(text)) if self._calls else []
        return [key for name in called for key in self._by_name[name]]

    def _vars_in(self, code: Mapping[str, Any]) -> dict[str, Any]:
        names: set[str] = set()
        for text in _texts(code):
            for quote, name in _VAR.findall(text):
                names |= {name} if quote else self._vars.keys()
        return {name: self._vars[name] for name in sorted(names) if name in self._vars}


def _project_vars(metadata: Mapping[str, Any], project: str) -> dict[str, Any]:
    """The vars of ``dbt_project.yml``, kept in the manifest by ``prepare``; a project's own scope wins."""
    stored = metadata["env"].get(VARS_IN_MANIFEST)
    if stored is None:
        raise MartError("this manifest does not say the project's vars; make it with prepare.ensure_manifest")
    every: dict[str, Any] = json.loads(stored)
    own = every.get(project)
    return {**every, **own} if isinstance(own, dict) else every


def _config(node: Mapping[str, Any]) -> dict[str, Any]:
    config = {
        k: v for k, v in node["config"].items() if k not in _CONFIG_WITHOUT_ROWS and v not in (None, [], {})
    }
    for hook in set(_HOOKS) & config.keys():
        config[hook] = [{**each, "sql": normal_form(each["sql"])} for each in config[hook]]
    return config


def _test_code(test: Mapping[str, Any]) -> dict[str, Any]:
    """What a test asks, without its name."""
    config = {
        k: test["config"].get(k) for k in ("severity", "where", "limit", "fail_calc", "warn_if", "error_if")
    }
    generic = test.get("test_metadata")
    if generic is None:
        return {"sql": normal_form(test["raw_code"]), "config": config}
    return {
        "test": [generic.get("namespace"), generic["name"]],
        "column": test.get("column_name"),
        "arguments": generic["kwargs"],
        "config": config,
    }


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


@functools.cache
def _installed(distribution: str) -> str:
    return importlib.metadata.version(distribution)
