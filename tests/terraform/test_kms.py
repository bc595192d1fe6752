"""Keys: one for each kind of data, turned every 90 days, usable by exactly one agent of Google, never destroyed."""

import re

import pytest

from tests.conftest import CHECKOUT
from tests.terraform.plans import Plan, plan

ROTATION = "7776000s"
AGENTS = {
    "database": "sqladmin",
    "cache": "memorystore",
    "secrets": "secretmanager",  # pragma: allowlist secret
    "cluster": "container",
    "registry": "artifactregistry",
    "pubsub": "pubsub",
    "run": "run",
    "workflows": "workflows",
}
OTHERS = {"storage": "google_storage_project_service_account", "logging": "google_logging_project_cmek_settings"}
GRANT = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
# Types that can be encrypted with a key of ours, and where the key stands.
ENCRYPTED = {
    "google_sql_database_instance": "encryption_key_name",
    "google_memorystore_instance": "kms_key",
    "google_pubsub_topic": "kms_key_name",
    "google_artifact_registry_repository": "kms_key_name",
    "google_workflows_workflow": "crypto_key_name",
}
ENCRYPTED_BY_BLOCK = {
    "google_storage_bucket": ("encryption", "default_kms_key_name"),
    "google_container_cluster": ("database_encryption", "key_name"),
    "google_logging_project_bucket_config": ("cmek_settings", "kms_key_name"),
}

HOLDING_DATA = "kms_key_ring|kms_crypto_key|sql_database_instance|storage_bucket"


@pytest.fixture(params=["production", "staging"])
def planned(request: pytest.FixtureRequest) -> Plan:
    made: Plan = plan(request.param)
    return made


def test_every_key_turns_each_90_days(planned: Plan) -> None:
    """But the one that attests images: Cloud KMS turns no asymmetric key by itself."""
    keys = planned.resources("google_kms_crypto_key")
    keys.pop("google_kms_crypto_key.attestor")

    assert {key["name"] for key in keys.values()} == {*AGENTS, *OTHERS, "fields"}
    assert {key["rotation_period"] for key in keys.values()} == {ROTATION}
    assert {key["purpose"] for key in keys.values()} == {"ENCRYPT_DECRYPT"}
    assert {key["destroy_scheduled_duration"] for key in keys.values()} == {"2592000s"}


def test_keys_stand_where_the_data_are(planned: Plan) -> None:
    rings = planned.resources("google_kms_key_ring")

    assert rings["google_kms_key_ring.main"]["location"] == planned.variables["region"]
    assert all(ring["location"].startswith("europe-") for ring in rings.values())


def test_an_agent_has_its_own_key_and_no_other(planned: Plan) -> None:
    grants = planned.resources("google_kms_crypto_key_iam_member")
    agents = {address: grant for address, grant in grants.items() if ".agent[" in address}
    keys = {
        re.findall(r'"(.*)"', address)[0]: key["id"]
        for address, key in planned.resources("google_kms_crypto_key").items()
        if ".main[" in address
    }

    assert {grant["crypto_key_id"]: grant["role"] for grant in agents.values()} == {
        key: GRANT for name, key in keys.items() if name != "fields"
    }
    assert len({grant["member"] for grant in agents.values()}) == len(agents) == len(AGENTS) + len(OTHERS)
    for name, agent in AGENTS.items():
        identity = planned.resource(f'google_project_service_identity.main["{agent}"]')
        assert agents[f'google_kms_crypto_key_iam_member.agent["{name}"]']["member"] == identity["member"]
        assert identity["service"] == f"{agent}.googleapis.com"


def test_nobody_but_the_field_services_and_agents_may_use_a_key(planned: Plan) -> None:
    grants = planned.resources("google_kms_crypto_key_iam_member")
    fields = planned.resource('google_kms_crypto_key.main["fields"]')["id"]
    others = [
        grant for address, grant in grants.items() if not re.search(r"\.(agent\[|replica\[|disks$|build$)", address)
    ]

    assert {grant["crypto_key_id"] for grant in others} <= {fields}
    assert {grant["role"] for grant in others} <= {
        "roles/cloudkms.cryptoKeyEncrypter",
        "roles/cloudkms.cryptoKeyDecrypter",
    }


def test_everything_that_can_be_is_encrypted_with_a_key_of_ours(planned: Plan) -> None:
    ours = {key["id"] for key in planned.resources("google_kms_crypto_key").values()}
    for kind, attribute in ENCRYPTED.items():
        for address, values in planned.resources(kind).items():
            assert values.get(attribute) in ours, address
    for kind, (block, attribute) in ENCRYPTED_BY_BLOCK.items():
        for address, values in planned.resources(kind).items():
            assert values[block][0][attribute] in ours, address


def test_what_holds_data_is_never_destroyed() -> None:
    text = "".join((CHECKOUT / "terraform" / f"{name}.tf").read_text() for name in ("kms", "database", "storage"))
    blocks = re.findall(rf'^resource "google_(?:{HOLDING_DATA})" .*?^}}', text, re.M | re.S)
    guarded = [block for block in blocks if "prevent_destroy = true" in block]

    assert len(guarded) == len(blocks) == 7
