"""What tests of organizations share with those of erasure and retention."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import CHECKOUT, Api
from tests.deletions.conftest import Backstage, Erasures


@pytest.fixture
def backstage(stack: dict[str, Any], api: Api, admin: Any) -> Backstage:
    return Backstage(stack, api, admin)


@pytest.fixture
def erasures(api: Api, admin: Any) -> Erasures:
    return Erasures(api, admin)


@pytest.fixture
def operator(stack: dict[str, Any]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the operator's command; the completed process."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "local.operator", *arguments, "--root", str(Path(stack["path"]).parent)]
        return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=30, check=False)

    return run
