"""What a page of docs/compliance cites: files and tests that exist, or the word that it is open and whose it is."""

import ast
import re
from functools import cache
from pathlib import Path

from tests.structure.sources import CHECKOUT, tree_of

OPEN = "Open, for who operates: "
APART = "Does not apply: "
CITED = re.compile(r"`(tests/[a-z_0-9/]+\.py)::(\w+)`")
NAMED = re.compile(r"`([\w.-]+(?:/[\w.-]+)*)`")
FILES = {".md", ".py", ".tf", ".txt", ".in", ".yaml", ".yml", ".toml", ".properties", ".baseline", ".json", ".svg"}
PLAIN = {"Makefile", "Dockerfile"}
OF_A_TEST = "What the test"  # … above rests on: shows that another one can fail, and nothing of the product


@cache
def tests_in(path: str) -> dict[str, str]:
    """The tests of a file, and what each says of itself."""
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    found = [node for node in ast.walk(tree_of(Path(path))) if isinstance(node, functions)]
    return {node.name: ast.get_docstring(node) or "" for node in found}


def paths_in(text: str) -> list[str]:
    """The files and folders of the repository that a cell names."""
    return [name for name in NAMED.findall(text) if "/" in name or Path(name).suffix in FILES or name in PLAIN]


def faults(here: str, proof: str) -> list[str]:
    """What is wrong with a row: what it names and is not there, or a proof that is none."""
    paths = paths_in(here)
    wrong = [f"{path} is not there" for path in paths if not (CHECKOUT / path).exists()]
    if proof.startswith((OPEN, APART)):
        return wrong + ["the reason is too short"] * (len(proof) < len(OPEN) + 15)
    cited = CITED.findall(proof)
    wrong += [
        f"{path}::{name} is not there"
        for path, name in cited
        if not (CHECKOUT / path).is_file() or name not in tests_in(path) or not name.startswith("test_")
    ]
    if cited and not wrong and all(tests_in(path)[name].startswith(OF_A_TEST) for path, name in cited):
        wrong.append("it rests on a test of a test")
    wrong += ["no code is named"] * (not paths) + ["no test is cited"] * (not cited)
    return wrong + ["a proof is a test"] * (CITED.sub("", proof).strip(", ") != "")
