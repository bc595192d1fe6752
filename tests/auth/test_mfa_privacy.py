"""Second factors are one person's own: in the database, in her copy, and when she goes. Their key can be rotated."""

import base64
import json
import secrets
import uuid

import pytest

from local.secrets_store import SecretStore
from tests.auth.mfa_support import FACTORS, added, confirm, enrolled, first_proof, logged_in, rested, verify
from tests.auth.support import refused
from tests.conftest import Api, People, database, running_stack
from tests.deletions.conftest import Backstage, Erasures
from tests.exports.conftest import Exports
from tests.tenancy.conftest import Attacker

TABLES = ("mfa_factors", "mfa_challenges", "mfa_codes", "mfa_recovery_codes")


@pytest.fixture
def auth(stack):
    attacker = Attacker(stack, "auth_fn")
    yield attacker
    attacker.connection.close()


def texting(api, person):
    """A factor by text message that waits, with a code under way; its number."""
    phone = f"+49151{uuid.uuid4().int % 10**8:08d}"
    assert api.post(FACTORS, json={"type": "sms", "phone": phone}, headers=person).status_code == 201
    return phone


def test_injected_sql_reaches_nobody_elses_factors(api, admin, alice, mallory, auth):
    app, codes = enrolled(api, admin, alice)
    phone = texting(api, alice)
    token = first_proof(api, alice)["mfa_token"]
    count = " UNION ALL ".join(f"SELECT count(*) FROM identity.{t} WHERE account_id = :u" for t in TABLES)
    before = admin.run(count, u=alice.user_id)
    state = "SELECT to_json(f)::text FROM identity.mfa_factors f WHERE account_id = :u ORDER BY id"
    factors = admin.run(state, u=alice.user_id)
    auth.begin_sealed(mallory)

    seen = auth.try_all(
        [
            *(f"SELECT to_json(t)::text FROM identity.{table} t" for table in TABLES),
            *(f"DELETE FROM identity.{table}" for table in TABLES),
            "UPDATE identity.mfa_factors SET failures = 0, last_step = NULL, confirmed_at = now()",
            "INSERT INTO identity.mfa_factors (id, account_id, type, secret)"
            f" VALUES (gen_random_uuid(), '{alice.user_id}', 'totp', 'x')",
            "INSERT INTO identity.mfa_recovery_codes (account_id, code_hash)"
            f" VALUES ('{alice.user_id}', sha256('AAAA'))",
            "INSERT INTO platform.outbox (id, kind, name, reference, task_name)"
            f" VALUES (gen_random_uuid(), 'sms', 'mfa_code', '{alice.user_id}', 'x')",
            f"SELECT * FROM identity.mfa_challenge(sha256('{token}'), true)",
            "SELECT * FROM platform.export_mfa_factors()",
            f"SELECT * FROM platform.subject_counts('{alice.user_id}')",
            f"SELECT * FROM platform.held_counts('{alice.user_id}')",
            "SELECT platform.retire('identity.mfa_codes', 100)",
            "COMMIT",
        ]
    )

    for secret in (alice.email, phone, app.factor_id):
        assert f"[['{secret}" not in seen
        assert f'"{secret}"' not in seen
    forged = "SELECT count(*) FROM platform.outbox WHERE reference = :u AND task_name = 'x'"
    assert admin.run(forged, u=alice.user_id) == [[0]]
    assert admin.run(count, u=alice.user_id) == before
    assert admin.run(state, u=alice.user_id) == factors
    assert verify(api, token, recovery_code=codes[0]).status_code == 200


def test_injected_sql_does_not_confirm_what_it_inserts_unseen(api, admin, mallory, auth):
    """A factor is inserted as one that waits: its columns of proof are not the inserter's to fill."""
    auth.begin_sealed(mallory)

    seen = auth.try_all(
        [
            "INSERT INTO identity.mfa_factors (id, account_id, type, secret, confirmed_at)"
            f" VALUES (gen_random_uuid(), '{mallory.user_id}', 'totp', 'x', now() - interval '1 year')",
        ]
    )
    assert "42501" in seen


def test_the_copy_holds_factors_without_secrets(api, admin, alice):
    app, codes = enrolled(api, admin, alice)
    phone = texting(api, alice)
    package = Exports(api).package(alice)

    rows = package.rows("mfa_factors")
    assert {row["type"]: row.get("phone") for row in rows} == {"totp": None, "sms": phone}
    assert app.factor_id in [row["id"] for row in rows]
    assert all("secret" not in row for row in rows)
    sealed = admin.run("SELECT secret FROM identity.mfa_factors WHERE id = :id", id=app.factor_id)[0][0]
    names = package.archive.namelist()
    assert not [name for name in names if "recovery" in name or "mfa_codes" in name or "challenge" in name]
    assert not [name for name in names if sealed in package.text(name) or codes[0] in package.text(name)]


def test_an_erasure_takes_and_counts_them(api, admin, alice):
    enrolled(api, admin, alice)
    texting(api, alice)
    first_proof(api, alice)
    counted = {
        f"identity.{table}": admin.run(f"SELECT count(*) FROM identity.{table} WHERE account_id = :u", u=alice.user_id)[
            0
        ][0]
        for table in TABLES
    }

    certificate = Erasures(api, admin).erase(alice)

    assert counted == dict(zip((f"identity.{t}" for t in TABLES), (2, 1, 1, 10), strict=True))
    told = {row["table"]: row["rows"] for row in certificate["tables"] if row["table"] in counted}
    assert told == counted
    for table in TABLES:
        assert admin.run(f"SELECT count(*) FROM identity.{table} WHERE account_id = :u", u=alice.user_id) == [[0]]


def test_what_was_never_confirmed_goes(stack, api, admin, alice):
    app, _ = enrolled(api, admin, alice)
    waiting = added(api, alice)
    admin.run(
        "UPDATE identity.mfa_factors SET expires_at = now() - interval '25 h' WHERE id = :id", id=waiting.factor_id
    )
    first_proof(api, alice)
    admin.run(
        "UPDATE identity.mfa_challenges SET expires_at = now() - interval '25 h' WHERE account_id = :u", u=alice.user_id
    )

    answer = Backstage(stack, api, admin).call("retention", "scheduler", "/internal/retention/run")

    assert answer.json["removed"]["identity.mfa_challenges"] >= 1
    assert [f["id"] for f in api.get(FACTORS, headers=alice).json["items"]] == [app.factor_id]
    assert admin.run("SELECT count(*) FROM identity.mfa_challenges WHERE account_id = :u", u=alice.user_id) == [[0]]


def rotate(root, *, keep):
    """A new active key of `mfa-key`; the old ones stay only with `keep`."""
    store = SecretStore(root)
    ring = json.loads(store.latest("mfa-key"))
    kid = secrets.token_hex(8)
    key = base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()
    old = ring["keys"] if keep else {}
    store.add("mfa-key", json.dumps({"active": kid, "keys": {**old, kid: {"algorithm": "HS256", "key": key}}}).encode())
    return kid


def test_factors_outlive_the_rotation_of_their_key(tmp_path):
    """A factor is read by the key that sealed it, and sealed anew when it is used: then the old key may go."""
    small = running_stack(tmp_path, only=["auth"], SECRETS_CACHE_SECONDS="0")
    with small as stack, database(stack["postgres"]["admin"]) as admin:
        api = Api(stack["api"])
        alice = People(stack, admin).create("owner", password="correct horse battery staple")
        app, _ = enrolled(api, admin, alice)
        idle, _ = enrolled(api, admin, alice)
        root = next(path for path in tmp_path.iterdir() if path.name.startswith("dev-context-stack-"))
        sealed = "SELECT split_part(secret, '.', 2) FROM identity.mfa_factors WHERE id = :id"
        kid = rotate(root, keep=True)

        assert admin.run(sealed, id=app.factor_id) != [[kid]]
        assert logged_in(api, alice, app)["status"] == "authenticated"
        assert admin.run(sealed, id=app.factor_id) == [[kid]]
        ring = json.loads(SecretStore(root).latest("mfa-key"))
        ring["keys"] = {kid: ring["keys"][kid]}
        SecretStore(root).add("mfa-key", json.dumps(ring).encode())

        assert logged_in(api, alice, rested(admin, app))["status"] == "authenticated"
        token = first_proof(api, alice)["mfa_token"]
        assert refused(verify(api, token, factor_id=idle.factor_id, code=idle.code()), 401, "invalid_code")
        waiting = added(api, alice)
        assert confirm(api, alice, waiting.factor_id, waiting.code()).status_code == 200
        api._session.close()
