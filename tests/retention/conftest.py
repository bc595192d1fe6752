"""Cloud Scheduler's part."""

from typing import Any

import pytest

from tests.conftest import Api
from tests.deletions.conftest import Backstage


@pytest.fixture
def backstage(stack: dict[str, Any], api: Api, admin: Any) -> Backstage:
    return Backstage(stack, api, admin)
