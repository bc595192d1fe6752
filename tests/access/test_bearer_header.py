"""BEARER_HEADER: the one header that a caller's credential is read from; any other is as if it were not there."""

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import CHECKOUT

CHILD = """
import json, sys
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request
from common import access, cookies
request = Request(EnvironBuilder(headers=json.loads(sys.argv[1])).get_environ())
print(json.dumps([access.bearer(request), cookies.received(request, "__Host-access")]))
"""
BOTH = {"Authorization": "Bearer direct", "X-Forwarded-Authorization": "Bearer moved", "Cookie": "__Host-access=kept"}
GATEWAY, RUN = "X-Forwarded-Authorization", "Authorization"


def read(headers: dict[str, str], **environment: str) -> list[str | None]:
    """The bearer credential and the cookie that a function would believe."""
    required = dict.fromkeys(("SERVICE", "DATABASE_URL", "SECRETS_DIR", "PUBLIC_URL", "SERVICE_URL"), "x")
    done = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps(headers)],
        cwd=CHECKOUT,
        env={"PATH": os.environ["PATH"], **required, **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    found: list[str | None] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("environment", "header", "credential"),
    [({}, GATEWAY, "moved"), ({"BEARER_HEADER": RUN}, RUN, "direct")],
    ids=["by default", "past the gateway"],
)
def test_it_is_read_from_one_header_alone(environment: dict[str, str], header: str, credential: str) -> None:
    assert read(BOTH, **environment) == [credential, None]
    assert read({name: value for name, value in BOTH.items() if name != header}, **environment) == [None, "kept"]
