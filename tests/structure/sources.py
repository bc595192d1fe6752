"""The repository as the structural tests read it: its files in git, its Python as syntax trees."""

import ast
import subprocess
from functools import cache
from pathlib import Path

CHECKOUT = Path(__file__).parent.parent.parent
PEERS = "bench/peers/"  # measured beside us, never shipped; their versions belong to the figures


@cache
def in_git() -> list[Path]:
    """Every file that git tracks and that exists, relative to the checkout."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=CHECKOUT, check=True, capture_output=True, text=True).stdout
    return [Path(name) for name in listed.split("\0") if name and (CHECKOUT / name).is_file()]


def python_of(*folders: str) -> list[Path]:
    """The Python files in some top folders, relative to the checkout."""
    return [path for path in in_git() if path.suffix == ".py" and path.parts[0] in folders]


@cache
def tree_of(path: Path) -> ast.Module:
    """A file's syntax tree."""
    return ast.parse((CHECKOUT / path).read_text(), str(path))


def read(name: str | Path) -> str:
    """A file's text."""
    return (CHECKOUT / name).read_text()
