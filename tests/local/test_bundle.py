"""The ZIP of one service: it holds what its entry function needs, and nothing of the others."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from local import bundle


@pytest.fixture
def checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A checkout with the requirements that the real one gets pinned."""
    for name in ("functions", "common"):
        (tmp_path / name).symlink_to(bundle.CHECKOUT / name)
    (tmp_path / "requirements.txt").write_text("functions-framework\n")
    monkeypatch.setattr(bundle, "CHECKOUT", tmp_path)
    return tmp_path


def test_it_works(checkout: Path, tmp_path: Path) -> None:
    path = bundle.bundle("projects", tmp_path / "build")

    names = zipfile.ZipFile(path).namelist()
    assert {"main.py", "requirements.txt", "functions/projects/queries.py", "common/http.py"} <= set(names)
    functions = {name for name in names if name.startswith("functions/")}
    assert {name for name in functions if not name.startswith("functions/projects/")} == {"functions/__init__.py"}
    assert not [name for name in names if "__pycache__" in name or name.startswith(("local/", "tests/"))]


def test_hidden_files_stay_out(checkout: Path, tmp_path: Path) -> None:
    """A .env of somebody's own."""
    (checkout / "common").unlink()
    for name in ("seen.py", ".env", ".keys/private.py", "__pycache__/seen.pyc"):
        path = checkout / "common" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    names = zipfile.ZipFile(bundle.bundle("projects", tmp_path / "build")).namelist()
    assert [name for name in names if name.startswith("common/")] == ["common/seen.py"]


def test_the_entry_function_can_be_imported_from_it(checkout: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(bundle.bundle("projects", tmp_path)).extractall(tmp_path / "source")

    program = "import main; print(main.projects.__name__)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path / "source", capture_output=True, text=True, check=True
    )

    assert done.stdout == "projects\n"


def test_the_same_source_gives_the_same_bytes(checkout: Path, tmp_path: Path) -> None:
    first = bundle.bundle("projects", tmp_path / "a").read_bytes()

    assert bundle.bundle("projects", tmp_path / "b").read_bytes() == first
