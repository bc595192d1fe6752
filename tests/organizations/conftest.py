"""What tests of organizations share with those of erasure and retention."""

from typing import Any

import pytest

from tests.conftest import Api
from tests.deletions.conftest import Backstage, Erasures


@pytest.fixture
def backstage(stack: dict[str, Any], api: Api, admin: Any) -> Backstage:
    return Backstage(stack, api, admin)


@pytest.fixture
def erasures(api: Api, admin: Any) -> Erasures:
    return Erasures(api, admin)
