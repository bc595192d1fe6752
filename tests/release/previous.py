"""The code of the previous release, from git."""

import re
import subprocess
import tarfile
import tomllib
from functools import cache
from io import BytesIO
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]


@cache
def commit() -> str:
    """The commit that pyproject.toml names; the test is skipped where the clone does not reach back to it."""
    named: str = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["dev-context"]["previous-release"]
    assert re.fullmatch(r"[0-9a-f]{40}", named)
    known = subprocess.run(["git", "cat-file", "-e", f"{named}^{{commit}}"], cwd=CHECKOUT, capture_output=True)
    if known.returncode:
        pytest.skip(f"the previous release, {named[:7]}, is not in this clone: git fetch --unshallow")
    return named


@cache
def files() -> dict[str, bytes]:
    """Its files by path."""
    archive = subprocess.run(["git", "archive", commit()], cwd=CHECKOUT, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=BytesIO(archive)) as tar:
        members = {member.name: tar.extractfile(member) for member in tar if member.isfile()}
        return {name: file.read() for name, file in members.items() if file}


def unpack(folder: Path) -> None:
    """Write them."""
    for name, content in files().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
