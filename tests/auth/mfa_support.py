"""What the tests of second factors share: an authenticator app, enrolled people, codes that were sent."""

import base64
import hmac
import json
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.auth.support import log_in
from tests.conftest import PASSWORD, wait_until

FACTORS = "/v1/auth/mfa/factors"
VERIFY = "/v1/auth/mfa/verify"
CHALLENGE = "/v1/auth/mfa/challenge"
WRONG = "000000"


def hotp(secret: bytes, counter: int) -> str:
    """RFC 4226, written once more, so that the product is not its own judge."""
    mac = hmac.new(secret, counter.to_bytes(8, "big"), "sha1").digest()
    offset = mac[19] & 0xF
    return str((int.from_bytes(mac[offset : offset + 4], "big") & 0x7FFFFFFF) % 1_000_000).zfill(6)


@dataclass
class App:
    """An authenticator app with one account."""

    factor_id: str
    secret: bytes

    def code(self, drift: int = 0) -> str:
        """The code `drift` steps from now; never so close to the next step that it would be another one on arrival."""
        wait_until(lambda: time.time() % 30 < 25, 10, "the next step")
        return hotp(self.secret, int(time.time()) // 30 + drift)


def rested(admin: Any, app: App) -> App:
    """The app, as if none of its codes had been used yet."""
    admin.run("UPDATE identity.mfa_factors SET last_step = NULL WHERE id = :id", id=app.factor_id)
    return app


def confirm(api: Any, person: Any, factor_id: str, code: str) -> Any:
    return api.post(f"{FACTORS}/{factor_id}/confirm", json={"code": code}, headers=person)


def added(api: Any, person: Any) -> App:
    """An app that waits for its first code."""
    answer = api.post(FACTORS, json={"type": "totp"}, headers=person)
    assert answer.status_code == 201, answer.text
    return App(answer.json["id"], base64.b32decode(answer.json["secret"]))


def enrolled(api: Any, admin: Any, person: Any) -> tuple[App, list[str]]:
    """An app that counts, none of its codes used yet, and the recovery codes."""
    app = added(api, person)
    answer = confirm(api, person, app.factor_id, app.code())
    assert answer.status_code == 200, answer.text
    return rested(admin, app), answer.json.get("recovery_codes", [])


def first_proof(api: Any, person: Any) -> dict[str, Any]:
    """The answer to the right password of somebody with a second factor."""
    answer = log_in(api, person.email, PASSWORD)
    assert (answer.status_code, answer.json["status"]) == (200, "mfa_required"), answer.text
    found: dict[str, Any] = answer.json
    return found


def verify(api: Any, mfa_token: str, **proof: str) -> Any:
    return api.post(VERIFY, json={"mfa_token": mfa_token, **proof})


def logged_in(api: Any, person: Any, app: App, drift: int = 0) -> dict[str, Any]:
    """The token answer of a log-in with the app."""
    token = first_proof(api, person)["mfa_token"]
    answer = verify(api, token, factor_id=app.factor_id, code=app.code(drift))
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json
    return found


def texts(stack: dict[str, Any], number: str) -> list[str]:
    """What was texted to a number, oldest first."""
    path = Path(stack["sms"])
    lines = path.read_text().splitlines() if path.exists() else []
    return [line["body"] for line in map(json.loads, lines) if line["to"] == number]


def texted_code(stack: dict[str, Any], number: str, count: int = 1) -> str:
    """The code of the `count`-th text message to a number."""
    wait_until(lambda: len(texts(stack, number)) >= count, 30, f"text message {count}")
    found = re.search(r"\b(\d{6})\b", texts(stack, number)[count - 1])
    assert found
    return found[1]


def mailed_code(inbox: Any, address: str, count: int = 1) -> str:
    """The code of the `count`-th mail with one."""

    def codes() -> list[str]:
        subjects = [message["subject"] for message in reversed(inbox.messages(address))]
        return [subject[:6] for subject in subjects if "is your code" in subject]

    wait_until(lambda: len(codes()) >= count, 30, f"mail {count} with a code")
    return codes()[count - 1]
