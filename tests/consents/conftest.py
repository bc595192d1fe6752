"""What tests of consents share: purposes of the platform and of organizations, and what is written down of a person."""

import hashlib
import uuid
from typing import Any

import pg8000.native
import pytest

from tests.conftest import Answer, Api, Person

TEXT = "May we write to you about what is new?"
GPC = {"Sec-GPC": "1"}


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class Consents:
    """Consents as a person sees them; and what is behind them."""

    def __init__(self, api: Api, admin: pg8000.native.Connection) -> None:
        self.api, self.admin = api, admin

    def of_platform(self, text: str = TEXT, *, marketing: bool = True, purpose: str | None = None) -> str:
        """A purpose of the platform, or the next text of one, as the operator makes it."""
        known, purpose = purpose, purpose or f"p-{uuid.uuid4().hex[:12]}"
        self.admin.run(
            "SELECT platform.put_consent_purpose(:purpose, :marketing, :text)",
            purpose=purpose,
            marketing=marketing if known is None else None,
            text=text,
        )
        return purpose

    def of_organization(self, owner: Person, text: str = TEXT, *, marketing: bool = True) -> str:
        """A purpose of the owner's organization."""
        purpose = f"o-{uuid.uuid4().hex[:12]}"
        body = {"purpose": purpose, "text": text, "marketing": marketing}
        answer = self.api.post("/v1/consents/purposes", json=body, headers=owner)
        assert answer.status_code == 201, answer.text
        return purpose

    def put(
        self, person: dict[str, str], purpose: str, granted: bool, version: int | None = None, **more: str
    ) -> Answer:
        body = {"granted": granted} | ({"version": version} if version is not None else {})
        return self.api.put(f"/v1/consents/{purpose}", json=body, headers={**person, **more})

    def give(self, person: dict[str, str], purpose: str, version: int = 1, **more: str) -> Any:
        answer = self.put(person, purpose, True, version, **more)
        assert answer.status_code == 200, answer.text
        return answer.json

    def withdraw(self, person: dict[str, str], purpose: str) -> Any:
        answer = self.put(person, purpose, False)
        assert answer.status_code == 200, answer.text
        return answer.json

    def mine(self, person: dict[str, str], purpose: str) -> Any:
        """What she has decided about a purpose, None for nothing."""
        items = self.api.get("/v1/consents", headers=person).json["items"]
        return next((item for item in items if item["purpose"] == purpose), None)

    def history(self, person: dict[str, str], purpose: str) -> list[Any]:
        """Her decisions about a purpose, newest first."""
        items = self.api.get("/v1/consents/history", headers=person).json["items"]
        return [item for item in items if item["purpose"] == purpose]

    def given(self, person: Person, purpose: str, *, to_organization: bool = False) -> bool:
        """Whether her consent counts."""
        organization = person.tenant_id if to_organization else None
        sql = "SELECT platform.consent_given(CAST(:p AS uuid), CAST(:o AS uuid), :purpose)"
        return bool(self.admin.run(sql, p=person.user_id, o=organization, purpose=purpose)[0][0])

    def events(self, tenant_id: str, like: str = "consent%") -> list[dict[str, Any]]:
        """The events of an organization, oldest first."""
        rows = self.admin.run(
            "SELECT to_json(e) FROM app.audit_events e WHERE tenant_id = :t AND action LIKE :like ORDER BY seq",
            t=tenant_id,
            like=like,
        )
        return [row[0] for row in rows]


@pytest.fixture
def consents(api: Api, admin: pg8000.native.Connection) -> Consents:
    return Consents(api, admin)
