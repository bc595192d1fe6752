"""What tests of organizations share: mailed links of invitations, and people with roles of their own."""

import re
from typing import Any

import pg8000.native

from tests.conftest import Answer, Api, Inbox, People, Person, wait_until

LINK = re.compile(r"/accept-invitation#token=([A-Za-z0-9_-]+)")
PASSWORD = "a quiet river in autumn"  # pragma: allowlist secret


def invite(api: Api, maker: Person, email: str, role: str = "member") -> dict[str, Any]:
    """A new invitation."""
    answer = api.post("/v1/invitations", json={"email": email, "role": role}, headers=maker)
    assert answer.status_code == 201, answer.text
    return dict(answer.json)


def links(inbox: Inbox, email: str) -> list[str]:
    """The secrets that were mailed to an address, the newest first."""
    return [LINK.search(message["text"])[1] for message in inbox.messages(email) if LINK.search(message["text"])]  # type: ignore[index]


def mailed(inbox: Inbox, email: str, number: int = 1) -> str:
    """The newest secret, once so many mails with one have arrived."""
    return str(wait_until(lambda: len(links(inbox, email)) >= number and links(inbox, email), what="an invitation")[0])


def accept(api: Api, token: str, headers: Any = None, **body: Any) -> Answer:
    """POST /v1/invitations/accept."""
    return api.post("/v1/invitations/accept", json={"token": token, **body}, headers=headers)


def join(api: Api, token: str, name: str = "New Person") -> Answer:
    """Accept with a new account."""
    return accept(api, token, password=PASSWORD, display_name=name)


def bearer(answer: Answer) -> dict[str, str]:
    """Headers of the log-in that a token answer is."""
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json['access_token']}"}


def role(api: Api, maker: Person, name: str, *permissions: str) -> dict[str, Any]:
    """A new role."""
    answer = api.post("/v1/roles", json={"name": name, "permissions": list(permissions)}, headers=maker)
    assert answer.status_code == 201, answer.text
    return dict(answer.json)


def person_with(api: Api, people: People, owner: Person, *permissions: str, name: str = "Special") -> Person:
    """A member whose role of this name holds these permissions."""
    role(api, owner, name, *permissions)
    person = people.create("viewer", owner.tenant_id)
    answer = api.patch(f"/v1/members/{person.user_id}", json={"role": name}, headers=owner)
    assert answer.status_code == 200, answer.text
    return person


def membership(admin: pg8000.native.Connection, tenant_id: str, user_id: str) -> Any:
    """(role, role_id) of a member, None for nobody."""
    rows = admin.run(
        "SELECT role, role_id::text FROM app.members WHERE tenant_id = :t AND user_id = :u", t=tenant_id, u=user_id
    )
    return tuple(rows[0]) if rows else None
