"""Access tokens for the load harness, one line per tenant: tenant id, tab, token. `python -m bench.tokens --help`."""

import argparse
import base64
import json
import time
import uuid
from pathlib import Path
from typing import Any

import jwt

from bench.seed import identifier

DAY = 86_400


def signing_key(stack: dict[str, Any]) -> tuple[str, bytes]:
    """The active key's id and the key."""
    ring = json.loads(Path(stack["jwt_keyring"]).read_text())
    return ring["active"], base64.urlsafe_b64decode(ring["keys"][ring["active"]]["key"] + "==")


def main() -> None:
    """Print tokens of the seeded log-in sessions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stack", type=Path, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--role", choices=("member", "viewer"), required=True)
    arguments = parser.parse_args()
    stack = json.loads(arguments.stack.read_text())
    kid, key = signing_key(stack)
    who = "viewer" if arguments.role == "viewer" else "user"
    now = int(time.time())
    for number in range(1, arguments.count + 1):
        tenant, user, session = (identifier(f"{name}{number}") for name in ("tenant", who, f"session-{who}"))
        claims = {
            **{"iss": stack["api"], "aud": stack["api"], "sub": user, "account_id": user, "tenant_id": tenant},
            **{"client_id": "first-party", "sid": session, "iat": now, "nbf": now, "exp": now + DAY},
            **{"jti": str(uuid.uuid4()), "amr": ["pwd"], "auth_time": now},
        }
        token = jwt.encode(claims, key, "HS256", headers={"typ": "at+jwt", "kid": kid})
        print(f"{tenant}\t{token}")


if __name__ == "__main__":
    main()
