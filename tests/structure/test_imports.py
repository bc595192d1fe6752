"""Imports go one way: functions/x → common → libraries, sessions → common; the product knows no local, no tests."""

import ast
import sys

import pytest

from tests.structure.sources import python_of, tree_of

OURS = {"bench", "common", "functions", "local", "migrations", "sessions", "tests"}
MAY_IMPORT = {
    "common": {"common"},
    "functions": {"common"},  # and its own folder
    "sessions": {"common", "sessions"},
    "migrations": {"common", "migrations"},
}
BESIDES = {  # what one file may import on top, and why
    "migrations/operator/keys.py": "functions.keys",  # the operator turns a key ring by the rotation's own code
}


def imported(path):
    """The dotted names of every module that a file imports, wherever the import stands."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." if node.level else f"{node.module}"
            if node.module in OURS:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_allowed(path, name):
    top, *rest = name.split(".")
    if top not in OURS:
        return True
    if path.parts[0] == "functions" and top == "functions":
        return not rest or rest[0] == path.parts[1]
    besides = BESIDES.get(path.as_posix())
    if besides and (name == "functions" or f"{name}.".startswith(f"{besides}.")):
        return True
    return top in MAY_IMPORT[path.parts[0]]


@pytest.mark.parametrize("path", python_of(*MAY_IMPORT), ids=str)
def test_imports_go_one_way(path):
    assert [name for name in imported(path) if not is_allowed(path, name)] == []


@pytest.mark.parametrize("path", python_of(*OURS), ids=str)
def test_imports_are_absolute(path):
    assert "." not in list(imported(path))


def test_the_rule_refuses():
    """What the two tests above rest on."""
    common, projects = (next(path for path in python_of(top)) for top in ("common", "functions"))
    assert not is_allowed(common, "functions.projects.main")
    assert not is_allowed(common, "local.layout")
    assert not is_allowed(projects, "tests.conftest")
    another = "auth" if projects.parts[1] != "auth" else "audit"
    assert not is_allowed(projects, f"functions.{another}.queries")
    assert is_allowed(projects, "common.db")
    assert is_allowed(projects, "json")
    (keys,) = (path for path in python_of("migrations") if path.as_posix() in BESIDES)
    assert is_allowed(keys, "functions.keys.policies")
    assert not is_allowed(keys, "functions.keysmith")
    assert not is_allowed(keys.with_name("jobs.py"), "functions.keys.policies")
    assert not OURS & set(sys.stdlib_module_names)
