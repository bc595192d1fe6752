"""The end of old versions where Secret Manager delays it: `version_destroy_ttl` of Terraform."""

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from google.cloud import secretmanager_v1 as api

from functions.keys.vault import Vault

STATE = api.SecretVersion.State
MADE = datetime(2026, 1, 1, tzinfo=UTC)
RING = {"active": "b", "keys": {"b": {"algorithm": "HS256", "key": "bb"}}}


class Delaying:
    """Two versions; a destruction is scheduled a week ahead, and asking again begins the week anew."""

    def __init__(self) -> None:
        self.versions = [
            api.SecretVersion(name=f"projects/p/secrets/s/versions/{number}", state=state, create_time=MADE)
            for number, state in ((2, STATE.ENABLED), (1, STATE.DISABLED))
        ]
        self.now = MADE + timedelta(days=40)

    def list_secret_versions(self, parent: str) -> list[api.SecretVersion]:
        return self.versions

    def access_secret_version(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(name=name, payload=SimpleNamespace(data=json.dumps(RING).encode()))

    def destroy_secret_version(self, name: str) -> None:
        asked: Any = self.versions[1]
        asked.scheduled_destroy_time = self.now + timedelta(days=7)


@pytest.fixture
def client() -> Delaying:
    return Delaying()


def tidy(client: Delaying) -> list[str]:
    return Vault(client, "p").tidy("s", RING, int(client.now.timestamp()), 30 * 86_400)


def test_a_destruction_that_waits_is_not_asked_for_again(client: Delaying) -> None:
    """Else a daily run would put it off for ever."""
    assert tidy(client) == ["destroyed version 1"]
    due = client.versions[1].scheduled_destroy_time
    for _ in range(6):
        client.now += timedelta(days=1)
        assert tidy(client) == []
    assert client.versions[1].scheduled_destroy_time == due
