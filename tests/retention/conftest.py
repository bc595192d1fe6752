"""Cloud Scheduler's part."""

from typing import Any

import pytest

from tests.audit.aging import Aging
from tests.conftest import Api
from tests.deletions.conftest import Backstage
from tests.retention.chains import Chains


@pytest.fixture
def backstage(stack: dict[str, Any], api: Api, admin: Any) -> Backstage:
    return Backstage(stack, api, admin)


@pytest.fixture
def chains(api: Api, admin: Any, backstage: Backstage) -> Chains:
    return Chains(api, admin, backstage)


@pytest.fixture
def aging(stack: dict[str, Any], admin: Any) -> Aging:
    return Aging(stack, admin)
