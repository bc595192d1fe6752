"""A stack of its own for each module of this folder: its processes are killed."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import Api, Inbox, running_stack
from tests.e2e.jobs import Stage

SETTINGS = {"RATE_USER": "1000000/hour", "RATE_IP": "1000000/minute", "RATE_ANONYMOUS": "1000000/hour"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    with running_stack(tmp_path_factory.mktemp("stack"), **SETTINGS) as running:
        yield running


@pytest.fixture
def stage(stack: dict[str, Any], api: Api, inbox: Inbox) -> Iterator[Stage]:
    made = Stage(stack, api, inbox)
    yield made
    made.close()
