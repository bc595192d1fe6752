"""Every environment says what the variables ask for, and nothing else."""

import re

import pytest

from tools.terraform.check import CHECKOUT
from tools.terraform.hcl import parse, unquote
from tools.terraform.module import load, sources
from tools.terraform.plan import Failed, binary, plan, running

DECLARED = load(sources(CHECKOUT / "terraform")).declared["variable"]
ENVIRONMENTS = sorted((CHECKOUT / "terraform" / "env").glob("*.tfvars"))

WHO_AND_WHERE = {  # an environment names people and places; what protects anything is the same in all of them
    *("MAIL_FROM", "MAIL_PROVIDER", "SMTP_URL", "PRIVACY_MAIL"),
    *("OPERATOR_NAME", "OPERATOR_CONTACT", "DPO_CONTACT", "SUPERVISORY_AUTHORITY", "SECURITY_CONTACT"),
}
REFUSED = [  # several at a time: Terraform names all that are wrong, but for those that depend on another one
    {
        "environment": "test",
        "project": "123",
        "region": "us-central1",
        "domain": "https://api.example.com",
        "image": "europe-west1-docker.pkg.dev/p/r/i:latest",
        "not_yet": ["nobody"],
        "operators": ["allUsers"],
        "approvers": ["allUsers"],
        "source_repository": "github.com/example/dev-context",
        "never_blocked": ["203.0.113.7"],
        "database_instance": "Main",
        "database_tier": "db-f1-micro",
        "database_availability": "NONE",
        "database_disk_gb": 1,
        "database_maintenance": "never",
        "backup_location": "us",
        "cache_node": "HUGE",
        "cache_replicas": 9,
        "flow_sampling": 0,
        "edge": "direct",
        "blocked_regions": ["Korea"],
        "blocked_addresses": ["somewhere"],
        "recaptcha": "off",
        "recaptcha_score": 2,
        "secret_rotation_seconds": 31_536_000,
        "trusted_images": ["ghcr.io/external-secrets/external-secrets:latest"],
        "alert_mail": "nobody",
        "slack_channel": "security",
        "failed_log_ins_a_minute": 0,
        "billing_account": "1",
        "monthly_budget": 0,
    },
    {
        "region": "europe-west2",  # London
        "operators": ["domain:example.com"],
        "approvers": ["domain:example.com"],
        "never_blocked": ["0.0.0.0/0"],
        "database_tier": "db-g1-small",
        "backup_location": "europe-west6",  # Zurich
        "flow_sampling": 1.1,
        "blocked_addresses": ["203.0.113.7/32"] * 101,
        "recaptcha_score": -1,
        "secret_rotation_seconds": 60,
        "trusted_images": ["*@sha256:*"],
        "monthly_budget": 0.5,
    },
    {
        "replica_region": "us-east1",
        "session_endpoint_zones": ["europe-west4-a"],
        "trusted_images": ["ghcr.io/*@sha256:*"],
        "operators": ["allAuthenticatedUsers"],
    },
    {"replica_region": "europe-west1"},  # where the database is
]


def test_two_environments():
    assert [path.stem for path in ENVIRONMENTS] == ["production", "staging"]
    assert [path.name for path in sorted(ENVIRONMENTS[0].parent.glob("*.gcs.tfbackend"))] == [
        "production.gcs.tfbackend",
        "staging.gcs.tfbackend",
    ]
    states = [parse(path.read_text())["bucket"] for path in ENVIRONMENTS[0].parent.glob("*.gcs.tfbackend")]
    assert len({*states}) == 2


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.stem)
def test_an_environment(path):
    values = parse(path.read_text())
    assert sorted(set(values) - set(DECLARED)) == [], "nobody declares these: Terraform would only warn"
    needed = {name for name, entry in DECLARED.items() if "default" not in entry.body}
    assert sorted(needed - set(values)) == []
    assert values["environment"] == f'"{path.stem}"'
    assert {unquote(name) for name in values["settings"]} <= WHO_AND_WHERE


@pytest.mark.parametrize("name", sorted(DECLARED))
def test_a_variable(name):
    entry = DECLARED[name]
    assert entry.where.startswith("terraform/variables.tf:")
    assert {"type", "description"} <= set(entry.body)


@pytest.mark.skipif(binary() is None, reason="terraform is not installed")
def test_what_a_variable_refuses():
    with running(CHECKOUT, resolved=False) as run:
        for values in REFUSED:
            with pytest.raises(Failed) as refused:
                plan(run, "staging", values)
            said = {*re.findall(r"var\.(\w+) is ", str(refused.value))}
            assert {*values} - said == set(), "these are let through"


def test_each_rule_of_a_variable_is_tried():
    ruled = {name for name, entry in DECLARED.items() if "validation" in entry.body}
    assert {name for values in REFUSED for name in values} | {"settings"} == ruled  # settings: test_services.py
