"""Secret Manager: every secret of the catalog, under our key, inside the European Union, for whoever needs it alone."""

from typing import Any

import pytest
import yaml

from functions.keys import policies
from tests.terraform.plans import Plan, plan
from tools.terraform.plan import CHECKOUT

ACCESSOR, MANAGER = "roles/secretmanager.secretAccessor", "roles/secretmanager.secretVersionManager"
CATALOG = yaml.safe_load((CHECKOUT / "functions" / "catalog.yaml").read_text())
EVERYBODYS = ("sentry-dsn", "valkey-ca")
ENVIRONMENTS = ["staging", "production", "foundation"]
REMINDED = {id for id, entry in CATALOG["by_hand"].items() if not entry.get("terraform")}
NINETY_DAYS = "7776000s"


@pytest.fixture(scope="module", params=ENVIRONMENTS)
def planned(request: pytest.FixtureRequest) -> Plan:
    return plan(request.param)


def secrets(planned: Plan) -> dict[str, dict[str, Any]]:
    return {each["secret_id"]: each for each in planned.resources("google_secret_manager_secret").values()}


def test_every_secret_that_the_product_reads_is_there(planned: Plan) -> None:
    assert secrets(planned).keys() == {*policies.secret_ids(), *policies.not_rotated(), *CATALOG["by_hand"]}


def test_each_is_encrypted_by_our_key_in_our_region_and_nowhere_else(planned: Plan) -> None:
    key = planned.resource('google_kms_crypto_key.main["secrets"]')["id"]
    for id, secret in secrets(planned).items():
        (replication,) = secret["replication"]
        ((replicas,),) = [each["replicas"] for each in replication["user_managed"]]
        assert not replication.get("auto"), id
        assert replicas["location"] == "europe-west1"
        assert [each["kms_key_name"] for each in replicas["customer_managed_encryption"]] == [key]


def test_none_can_go_by_accident(planned: Plan) -> None:
    assert {each["deletion_protection"] for each in secrets(planned).values()} == {True}
    assert {each["version_destroy_ttl"] for each in secrets(planned).values()} == {"604800s"}
    assert "prevent_destroy = true" in (CHECKOUT / "terraform" / "secrets.tf").read_text()


def test_a_person_is_reminded_after_90_days_where_nothing_turns_the_secret(planned: Plan) -> None:
    """A rotation of Secret Manager sends a message and renews nothing: of a ring it would be a false alarm."""
    topic = planned.resource('google_pubsub_topic.main["secret-rotation"]')["id"]
    for id, secret in secrets(planned).items():
        rotation = [each["rotation_period"] for each in secret.get("rotation", [])]
        topics = [each["name"] for each in secret.get("topics", [])]
        assert (rotation, topics) == (([NINETY_DAYS], [topic]) if id in REMINDED else ([], [])), id


def test_what_is_not_reminded_of_is_turned_by_the_rotation_or_by_terraform(
    planned: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the rotation's own period is the same."""
    for name in ("SERVICE", "DATABASE_URL", "SECRETS_DIR", "PUBLIC_URL", "SERVICE_URL"):
        monkeypatch.setenv(name, "-")
    from common.settings import settings

    settings.cache_clear()
    turned = {id for id in secrets(planned) if id not in policies.not_rotated() and policies.policy(id)}
    assert settings().key_rotation_seconds == 7_776_000
    settings.cache_clear()
    assert secrets(planned).keys() - REMINDED - turned == {"jwt-verify-keyring", "valkey-ca"}


def test_the_reminder_waits_until_somebody_acknowledges_it(planned: Plan) -> None:
    topic = planned.resource('google_pubsub_topic.main["secret-rotation"]')
    subscription = planned.resource("google_pubsub_subscription.secret_rotation")
    assert subscription["topic"] == topic["id"]
    assert subscription["filter"] == 'attributes.eventType = "SECRET_ROTATE"'
    assert [each["ttl"] for each in subscription["expiration_policy"]] == [""]
    publisher = planned.resource("google_pubsub_topic_iam_member.secret_rotation")
    agent = planned.resource('google_project_service_identity.main["secretmanager"]')["member"]
    assert (publisher["role"], publisher["member"]) == ("roles/pubsub.publisher", agent)


def expected(planned: Plan) -> set[tuple[str, str, str]]:
    """(secret, member, role), from the catalog, worked out without Terraform's help."""

    def account(name: str) -> str:
        return f"serviceAccount:dc-{name}@{project}.iam.gserviceaccount.com"

    project = planned.variables["project"]
    pool = f"principal://iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/{project}.svc.id.goog"
    found = set()
    contexts = [f"context-key-{each['role']}" for each in (CATALOG["services"] | CATALOG["workloads"]).values()]
    for name, entry in CATALOG["services"].items():
        found |= {(id, account(name), ACCESSOR) for id in EVERYBODYS}
        if not entry.get("secret_writer"):
            found |= {(id, account(name), ACCESSOR) for id in [*entry["secrets"], f"context-key-{entry['role']}"]}
    for name, entry in CATALOG["workloads"].items():
        copier = f"{pool}/subject/ns/dev-context/sa/{name}-secrets"
        found |= {(id, copier, ACCESSOR) for id in [*entry["secrets"], f"context-key-{entry['role']}", *EVERYBODYS]}
    for entry in CATALOG["jobs"].values():
        ids = [*entry["secrets"], *(contexts if entry.get("context_keys") else [])]
        found |= {(id, account(entry["account"]), ACCESSOR) for id in ids}
    for id in policies.written():
        found |= {(id, account("keys"), ACCESSOR), (id, account("keys"), MANAGER)}
    return found


def test_who_may_read_and_write_which_is_what_the_catalog_says(planned: Plan) -> None:
    """One right more, less or wider fails."""
    ids = {each["id"]: id for id, each in secrets(planned).items()}
    members = planned.resources("google_secret_manager_secret_iam_member").values()
    mine = [each for each in members if each["secret_id"] in ids]
    granted = [(ids[each["secret_id"]], each["member"], each["role"]) for each in mine]

    assert set(granted) == expected(planned)
    assert len(granted) == len(set(granted))
    assert not planned.resources("google_secret_manager_secret_iam_binding")
    assert not planned.resources("google_secret_manager_secret_iam_policy")


def test_nobody_has_a_right_to_secrets_of_the_whole_project(planned: Plan) -> None:
    for address, each in planned.resources("google_project_iam_member").items():
        assert "secretmanager" not in each["role"], address


def test_no_value_is_in_the_plan_but_public_certificates(planned: Plan) -> None:
    versions = planned.resources("google_secret_manager_secret_version")
    assert set(versions) <= {"google_secret_manager_secret_version.valkey_ca"}
    assert "value" not in planned.variables
