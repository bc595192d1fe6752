"""What the tests of log-in share: a newcomer who registers through the API and reads her mail."""

import base64
import json
import re
import uuid
from dataclasses import dataclass
from typing import Any

PASSWORD = "purple monkey dishwasher"
COOKIE = "__Host-registration"


@dataclass
class Newcomer:
    """Somebody who has registered; `cookie` is what her browser keeps."""

    email: str
    cookie: dict[str, str]
    password: str = PASSWORD


def new_address() -> str:
    return f"newcomer-{uuid.uuid4().hex[:12]}@example.org"


def register(api: Any, email: str | None = None, **changes: Any) -> Newcomer:
    """Register; nothing is verified yet."""
    email = email or new_address()
    body = {"email": email, "password": PASSWORD, "display_name": "Nora Berg", "organization_name": "Fjord Labs"}
    answer = api.post("/v1/auth/register", json={**body, **changes})
    assert answer.status_code == 202, answer.text
    cookie = re.match(rf"{COOKIE}=([^;]+)", answer.headers["Set-Cookie"])
    assert cookie
    return Newcomer(email, {"Cookie": f"{COOKIE}={cookie[1]}"}, changes.get("password", PASSWORD))


def mailed_token(inbox: Any, email: str, subject: str = "Confirm your e-mail", page: str = "verify-email") -> str:
    """The token of the newest mail with that subject."""
    found = re.search(rf"/{page}#token=([\w-]+)", inbox.wait_for(email, subject)["text"])
    assert found
    return found[1]


def sign_up(api: Any, inbox: Any) -> tuple[Newcomer, dict[str, Any]]:
    """A verified newcomer and the token answer of the verification."""
    newcomer = register(api)
    token = mailed_token(inbox, newcomer.email)
    answer = api.post("/v1/auth/email/verify", json={"token": token}, headers=newcomer.cookie)
    assert answer.status_code == 200, answer.text
    return newcomer, answer.json


def log_in(api: Any, email: str, password: str, **more: Any) -> Any:
    return api.post("/v1/auth/login", json={"email": email, "password": password, **more})


def device(answer: Any) -> dict[str, str]:
    """The cookie of a known device, as a browser sends it back."""
    found = re.search(r"__Host-device=([\w-]{43});", answer.headers["Set-Cookie"])
    assert found
    return {"Cookie": f"__Host-device={found[1]}"}


def refresh(api: Any, token: str) -> Any:
    return api.post("/v1/auth/refresh", json={"refresh_token": token})


def bearer(tokens: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {tokens['access_token']}"}


def claims(token: str) -> dict[str, Any]:
    """What an access token says, unverified."""
    part = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


def events(admin: Any, tenant_id: str) -> list[dict[str, Any]]:
    """The audit chain of an organization, oldest first."""
    rows = admin.run("SELECT to_json(e) FROM app.audit_events e WHERE tenant_id = :t ORDER BY seq", t=tenant_id)
    return [row[0] for row in rows]


def refused(answer: Any, status: int, code: str) -> bool:
    return (answer.status_code, answer.json["code"]) == (status, code)
