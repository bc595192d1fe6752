"""Phone numbers and secrets of second factors at rest, and what works while Cloud KMS does not."""

import json
import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.auth.mfa_support import FACTORS, added, confirm, enrolled, first_proof, texted_code, verify
from tests.auth.support import log_in, refused
from tests.conftest import PASSWORD, Api, running_stack, wait_until


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A stack whose KMS is taken away and given back."""
    with running_stack(tmp_path_factory.mktemp("kms"), only=["auth", "projects"]) as running:
        yield running


@pytest.fixture
def kms(stack: dict[str, Any]) -> Iterator[Any]:
    """`kms(False)`: auth has forgotten its keys, and KMS knows none; `kms(True)`: it is back."""
    material = Path(stack["path"]).parent / "kms" / "key.json"
    kept = material.with_suffix(".kept")

    def set_state(present: bool) -> None:
        if present == material.exists():
            return
        if present:
            kept.rename(material)
        else:
            restart_auth(stack)
            material.rename(kept)

    yield set_state
    set_state(True)


def restart_auth(stack: dict[str, Any]) -> None:
    """A new process of auth, which has unwrapped nothing yet."""
    before = json.loads(Path(stack["path"]).read_text())["pids"]["auth"]
    os.kill(before, signal.SIGKILL)
    wait_until(
        lambda: json.loads(Path(stack["path"]).read_text())["pids"].get("auth") not in (None, before), 20, "auth"
    )
    health = stack["api"] + "/health/ready"
    wait_until(lambda: requests.get(health, timeout=5).status_code == 200, 20, "a new auth")


def number() -> str:
    return f"+49151{uuid.uuid4().int % 10**8:08d}"


def test_the_database_holds_neither_numbers_nor_secrets(
    api: Api, admin: Any, stack: dict[str, Any], alice: Any
) -> None:
    phone = number()
    factor_id = api.post(FACTORS, json={"type": "sms", "phone": phone}, headers=alice).json["id"]
    app = added(api, alice)

    ((sealed,),) = admin.run("SELECT phone FROM identity.mfa_factors WHERE id = :id", id=factor_id)
    assert sealed.startswith("v1.")
    whole = str(admin.run("SELECT f::text FROM identity.mfa_factors f WHERE account_id = :id", id=alice.user_id))
    assert phone[1:] not in whole
    assert app.secret.hex() not in whole
    assert confirm(api, alice, factor_id, texted_code(stack, phone)).status_code == 200


def test_nobody_can_write_a_number_in_the_clear(admin: Any, alice: Any) -> None:
    statement = (
        "INSERT INTO identity.mfa_factors (id, account_id, type, phone) VALUES (gen_random_uuid(), :p, 'sms', :n)"
    )
    with pytest.raises(Exception, match="mfa_factors_phone_check"):
        admin.run(statement, p=alice.user_id, n=number())


def test_a_number_of_another_account_is_not_texted(
    api: Api, admin: Any, stack: dict[str, Any], alice: Any, dan: Any
) -> None:
    """Who can write to the database does not lead codes to a telephone of their own."""
    theirs, hers = number(), number()
    first = api.post(FACTORS, json={"type": "sms", "phone": theirs}, headers=dan).json["id"]
    texted_code(stack, theirs)
    second = api.post(FACTORS, json={"type": "sms", "phone": hers}, headers=alice).json["id"]
    confirm(api, alice, second, texted_code(stack, hers))
    admin.run(
        "UPDATE identity.mfa_factors SET phone = (SELECT phone FROM identity.mfa_factors WHERE id = :first)"
        " WHERE id = :second",
        first=first,
        second=second,
    )

    (shown,) = api.get(FACTORS, headers=alice).json["items"]
    assert shown["hint"] == "A phone"


def test_without_kms_factors_are_closed_and_the_rest_is_open(
    api: Api, admin: Any, stack: dict[str, Any], kms: Any, people: Any
) -> None:
    with_app, with_phone, without = (people.create("owner", password=PASSWORD) for _ in range(3))
    app, _ = enrolled(api, admin, with_app)
    phone = number()
    factor_id = api.post(FACTORS, json={"type": "sms", "phone": phone}, headers=with_phone).json["id"]
    assert confirm(api, with_phone, factor_id, texted_code(stack, phone)).status_code == 200
    kms(False)

    assert log_in(api, without.email, PASSWORD).json["status"] == "authenticated"
    assert api.get("/v1/projects", headers=with_app).status_code == 200
    token = first_proof(api, with_app)["mfa_token"]
    for _ in range(6):  # it costs no try, and locks nobody out
        answer = verify(api, token, factor_id=app.factor_id, code=app.code())
        assert refused(answer, 503, "unavailable")
        assert answer.headers["Retry-After"] == "5"
    assert refused(log_in(api, with_phone.email, PASSWORD), 503, "unavailable")
    assert refused(api.post(FACTORS, json={"type": "sms", "phone": number()}, headers=without), 503, "unavailable")
    assert refused(api.post(FACTORS, json={"type": "totp"}, headers=without), 503, "unavailable")
    assert admin.run("SELECT count(*) FROM identity.mfa_factors WHERE account_id = :p", p=without.user_id) == [[0]]

    kms(True)
    assert verify(api, token, factor_id=app.factor_id, code=app.code()).json["status"] == "authenticated"
    assert log_in(api, with_phone.email, PASSWORD).json["status"] == "mfa_required"


def test_a_recovery_code_needs_no_kms(api: Api, admin: Any, kms: Any, people: Any) -> None:
    person = people.create("owner", password=PASSWORD)
    _, codes = enrolled(api, admin, person)
    kms(False)

    token = first_proof(api, person)["mfa_token"]
    assert verify(api, token, recovery_code=codes[0]).json["status"] == "authenticated"
