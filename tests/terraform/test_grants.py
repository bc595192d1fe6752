"""No role is given, widened or moved without a reason in tools/terraform/grants.yaml; nothing is given to everybody."""

import pytest

from tools.terraform.check import CHECKOUT
from tools.terraform.grants import SHORTEST_REASON, check_grants, listed
from tools.terraform.module import load, sources

WHY = "The function writes its own files and reads none."
GRANTS = {
    "google_storage_bucket_iam_member.writer": {"roles": ["roles/storage.objectCreator"], "why": WHY},
    "google_project_iam_custom_role.signer": {"roles": ["iam.serviceAccounts.signBlob"], "why": WHY},
    "google_service_account_iam_member.signer": {"roles": [], "why": WHY},
    "local.roles": {"roles": ["roles/logging.logWriter"], "why": WHY},
}
MODULE = """
resource "google_storage_bucket_iam_member" "writer" {
  bucket = "b"
  role   = "roles/storage.objectCreator"
  member = "serviceAccount:a@example.iam.gserviceaccount.com"
}

resource "google_project_iam_custom_role" "signer" {
  role_id     = "signer"
  title       = "Signs"
  permissions = ["iam.serviceAccounts.signBlob"]
}

resource "google_service_account_iam_member" "signer" {
  service_account_id = "a"
  role               = google_project_iam_custom_role.signer.id
  member             = "serviceAccount:a@example.iam.gserviceaccount.com"
}

locals {
  roles = { logs = "roles/logging.logWriter" }
}
"""
WIDENED = {  # what is written in place of what, and what is said then
    "wider": ("storage.objectCreator", "storage.objectAdmin", "more ['roles/storage.objectAdmin']"),
    "owner": ("roles/storage.objectCreator", "roles/owner", "roles/owner is no role for anybody here"),
    "editor": ("roles/storage.objectCreator", "roles/editor", "roles/editor is no role for anybody here"),
    "viewer": ("roles/logging.logWriter", "roles/viewer", "roles/viewer is no role for anybody here"),
    "permission": ('signBlob"', 'signBlob", "iam.serviceAccounts.actAs"', "more ['iam.serviceAccounts.actAs']"),
    "whole-project": ("google_storage_bucket_iam_member", "google_project_iam_member", "is not in grants.yaml"),
    "all": ("serviceAccount:a@example.iam.gserviceaccount.com", "allUsers", "allUsers is everybody"),
    "all-accounts": ("serviceAccount:a@example.iam.gserviceaccount.com", "allAuthenticatedUsers", "is everybody"),
    "from-parts": ("roles/logging.logWriter", "roles/${each.key}", "put together from parts"),
    "half": ("roles/logging.logWriter", "roles/logging.${each.key}", "put together from parts"),
    "half-again": ('"roles/storage.objectCreator"', 'join("", ["roles/", "run.admin"])', "put together from parts"),
    "replaced": (
        '"roles/storage.objectCreator"',
        'replace("roles/storage.objectCreator", "Creator", "Admin")',
        "role is made by replace: write it out",
    ),
    "decoded": ('"roles/storage.objectCreator"', 'base64decode("eA==")', "role is made by base64decode"),
    "permissions-split": (
        '["iam.serviceAccounts.signBlob"]',
        'split(",", "iam.serviceAccounts.signBlob,iam.roles.update")',
        "more ['iam.roles.update']",
    ),
    "permissions-elsewhere": (
        '["iam.serviceAccounts.signBlob"]',
        'setunion(["iam.serviceAccounts.signBlob"], local.roles)',
        "permissions comes from elsewhere",
    ),
    "person": ("serviceAccount:a@", "user:a@", "user: is no account of ours"),
    "domain": ("serviceAccount:a@example.iam.gserviceaccount.com", "domain:example.com", "domain: is no account"),
    "everybody-joined": (
        '"serviceAccount:a@example.iam.gserviceaccount.com"',
        'join("", ["all", "Users"])',
        "member is made by join",
    ),
    "acl": ('"google_storage_bucket_iam_member"', '"google_storage_bucket_acl"', "is not in grants.yaml"),
    "access": ('"google_storage_bucket_iam_member"', '"google_bigquery_dataset_access"', "is not in grants.yaml"),
    "key": (
        "locals {",
        'resource "google_service_account_key" "x" {\n  service_account_id = "a"\n}\nlocals {',
        "google_service_account_key.x grants [] and is not in grants.yaml",
    ),
    "pool": (
        "locals {",
        'resource "google_iam_workload_identity_pool" "x" {\n  workload_identity_pool_id = "x"\n}\nlocals {',
        "google_iam_workload_identity_pool.x grants [] and is not in grants.yaml",
    ),
    "one-more": ("locals {", 'locals {\n  more = ["roles/run.admin"]', "local.more grants ['roles/run.admin']"),
    "binding": ("bucket_iam_member", "bucket_iam_binding", "is not in grants.yaml"),
    "elsewhere": (
        'role_id     = "signer"',
        'role_id = "signer"\n}\nresource "google_x" "y" {\n  role = "roles/run.admin"',
        "google_x.y grants ['roles/run.admin']",
    ),
}


def said(text, grants=GRANTS):
    return [finding.message for finding in check_grants(load({"a.tf": text}), grants)]


def test_what_is_listed():
    assert said(MODULE) == []


@pytest.mark.parametrize("name", WIDENED)
def test_what_is_not(name):
    old, new, words = WIDENED[name]
    assert old in MODULE
    found = said(MODULE.replace(old, new, 1))
    assert any(words in message for message in found), found


def test_what_is_listed_and_given_no_more():
    assert said(MODULE, {**GRANTS, "local.gone": {"roles": ["roles/run.invoker"], "why": WHY}}) == [
        "local.gone grants nothing any more"
    ]


def test_without_a_reason():
    grants = {**GRANTS, "local.roles": {"roles": ["roles/logging.logWriter"], "why": "needed"}}
    assert said(MODULE, grants) == ["local.roles: grants.yaml does not say why"]


def test_the_list_is_this_module_s():
    """What `make lint` looks at, too; here so that the tests alone show it."""
    assert list(check_grants(load(sources(CHECKOUT / "terraform")), listed())) == []


def test_every_reason_is_a_sentence_of_its_own():
    reasons = [grant["why"] for grant in listed().values()]
    assert all(len(why) >= SHORTEST_REASON and why[0].isupper() and why.endswith(".") for why in reasons)
    assert all(
        list(grant) == ["roles", "why"] and grant["roles"] == sorted(grant["roles"]) for grant in listed().values()
    )
