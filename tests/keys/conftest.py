"""A stack whose readers look at their secrets every second, and a hand on its clock: what the rings say of time."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.cloud import secretmanager_v1 as api
from google.cloud.secretmanager_v1.services.secret_manager_service.transports import SecretManagerServiceGrpcTransport

from functions.keys.rings import TIMES, Ring
from local.identity import Issuer
from local.layout import HOST, Layout, service_account
from local.secrets_store import SecretStore, Version
from tests.conftest import Answer, Api, running_stack, wait_until

DAY = 86_400
PERIOD = 90 * DAY
CACHE, SETTLE = 1, 2


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A stack of its own, in the place of the shared one."""
    fast = {"SECRETS_CACHE_SECONDS": str(CACHE), "KEY_SETTLE_SECONDS": str(SETTLE), "REFRESH_REPLAY_SECONDS": "60"}
    with running_stack(tmp_path_factory.mktemp("keys"), **fast) as running:
        yield running


class Safe:
    """The secrets of a stack as an operator sees them, and the scheduler's call."""

    def __init__(self, stack: dict[str, Any], api: Api) -> None:
        self._api = api
        self.layout = Layout.load(Path(stack["path"]).parent / "layout.json")
        self.store = SecretStore(self.layout.root)

    def call(self, account: str = "scheduler", path: str = "/internal/keys/rotate", service: str = "keys") -> Answer:
        """Ask the keys service for a run, or another one for its own, as a service account."""
        url = self.layout.run_url(service)
        token = Issuer(self.layout.root).identity_token(service_account(account), url)
        return self._api.post(url + path, headers={"Authorization": f"Bearer {token}"})

    def rotate(self, id: str) -> list[str]:
        """What a run does to one secret, without ids: `added`, `promoted`, …"""
        answer = self.call()
        assert answer.status_code == 200, answer.text
        return [step.split()[0] for step in answer.json["done"].get(id, [])]

    def ring(self, id: str) -> Ring:
        """The present content of a secret."""
        found: Ring = json.loads(self.store.latest(id) or b"")
        return found

    def put(self, id: str, ring: Ring) -> None:
        """A version by hand."""
        self.store.add(id, json.dumps(ring).encode())

    def later(self, id: str, seconds: int) -> None:
        """Pretend that so many seconds have gone by since everything that the ring tells of."""
        ring = self.ring(id)
        for each in ring["keys"].values():
            each.update({name: each[name] - seconds for name in TIMES if name in each})
        self.put(id, ring)

    def begin(self, id: str) -> str:
        """The key of a ring grows old and a run adds the next; its id."""
        self.call()
        before = self.ring(id)
        self.later(id, PERIOD)
        assert "added" in self.rotate(id)
        (kid,) = self.ring(id)["keys"].keys() - before["keys"].keys()
        assert self.ring(id)["active"] == before["active"]
        return str(kid)

    def promote(self, id: str) -> None:
        """Runs come until the next key signs; in real time, so that readers have had theirs."""
        wait_until(lambda: "promoted" in self.rotate(id), 15, f"the promotion in {id}")

    def turn(self, id: str) -> str:
        """A new key signs; its id."""
        kid = self.begin(id)
        self.promote(id)
        return kid

    def end(self, id: str, lifetime: int) -> list[str]:
        """The old key's time is over: what the run does."""
        self.later(id, lifetime + SETTLE)
        return self.rotate(id)

    def versions(self, id: str) -> list[Version]:
        """Oldest first."""
        return self.store.versions(id)[::-1]


@pytest.fixture
def safe(stack: dict[str, Any], api: Api) -> Safe:
    return Safe(stack, api)


@pytest.fixture
def client(safe: Safe) -> Iterator[Any]:
    """`client("engineer")`: Google's client of Secret Manager with the token of an account."""
    opened = []

    def connect(name: str) -> Any:
        trusted = grpc.ssl_channel_credentials(safe.layout.path("tls", "ca.pem").read_bytes())
        token = grpc.access_token_call_credentials(Issuer(safe.layout.root).access_token(service_account(name)))
        together = grpc.composite_channel_credentials(trusted, token)
        opened.append(grpc.secure_channel(f"{HOST}:{safe.layout.ports['secrets']}", together))
        return api.SecretManagerServiceClient(transport=SecretManagerServiceGrpcTransport(channel=opened[-1]))

    yield connect
    for each in opened:
        each.close()
