"""A process of auth: both rings mounted, with a shared key `s` and RSA keys `r` (active) and `other`."""

import json

import pytest

from common import secrets, tokens
from common.settings import settings
from functions.keys import rings
from tests.jwt.tools import API, RINGS


@pytest.fixture(scope="package", autouse=True)
def mounted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mounts")
    whole = {"active": "r", "keys": RINGS}
    (folder / tokens.SIGNING_RING).write_text(json.dumps(whole))
    (folder / tokens.VERIFYING_RING).write_text(json.dumps(rings.verifying(whole)))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DATABASE_URL", "SERVICE_URL"):
            patch.setenv(name, "unused")
        patch.setenv("SERVICE", "auth")
        patch.setenv("PUBLIC_URL", API)
        patch.setenv("SECRETS_DIR", str(folder))
        forget()
        yield
    forget()


def forget():
    settings.cache_clear()
    secrets._seen.clear()
    secrets._rings.clear()
