"""The checker finds what Terraform and the real provider would refuse, and says where."""

import pytest

from tools.terraform.check import CHECKOUT, findings, in_folder

WHOLE = """
terraform {
  required_providers {
    google = {
      source = "hashicorp/google"
    }
  }
}

variable "name" {
  type = string
}

locals {
  names = toset(["a", "b"])
}

resource "google_storage_bucket" "main" {
  for_each = local.names

  name     = "${var.name}-${each.key}"
  location = "EU"

  versioning {
    enabled = false
  }

  dynamic "lifecycle_rule" {
    for_each = [7, 30]

    content {
      action {
        type = "Delete"
      }
      condition {
        age = lifecycle_rule.value
      }
    }
  }

  lifecycle {
    ignore_changes = [labels]
  }
}

data "google_project" "main" {}

output "buckets" {
  value = { for name, bucket in google_storage_bucket.main : name => bucket.lifecycle_rule[*].condition }
}

output "first" {
  value = google_storage_bucket.main["a"].versioning[0].enabled ? data.google_project.main.number : path.module
}
"""
FAULTS = {  # what is written in place of what, and what is said then
    "attribute": (
        'location = "EU"',
        'locations = "EU"',
        'unknown attribute in google_storage_bucket.main: "locations"',
    ),
    "missing": ('  location = "EU"\n', "", 'missing required attribute "location"'),
    "null": ('location = "EU"', "location = null", 'required attribute "location" is null'),
    "read-only": ('location = "EU"', 'location = "EU"\n  self_link = "x"', '"self_link" is read-only'),
    "type": ('"google_storage_bucket" "main"', '"google_storage_buket" "main"', "unknown resource type"),
    "provider": ('"google_storage_bucket" "main"', '"aws_s3_bucket" "main"', "a provider whose schema is not here"),
    "only-beta": (
        'data "google_project" "main" {}',
        'resource "google_api_gateway_api" "x" {}',
        "exists only in provider",
    ),
    "alias": ('location = "EU"', 'location = "EU"\n  provider = google.other', 'unknown provider "google.other"'),
    "unrequired": ('location = "EU"', 'location = "EU"\n  provider = google-beta', 'unknown provider "google-beta"'),
    "block": ("versioning {", "versionings {", "unknown block"),
    "nested": ("enabled = false", "enable = false", "unknown attribute in google_storage_bucket.main.versioning"),
    "block-as-attribute": ("versioning {", "versioning = {", "is a block, not an attribute"),
    "attribute-as-block": ('location = "EU"', 'location {\n    x = "EU"\n  }', "is an attribute, not a block"),
    "in-dynamic": (
        "age = lifecycle",
        "aged = lifecycle",
        "unknown attribute in google_storage_bucket.main.lifecycle_rule",
    ),
    "iterator": ("lifecycle_rule.value", "var.value", 'unknown variable "value"'),
    "ignored": ("ignore_changes = [labels]", "ignore_changes = [label]", "lifecycle.ignore_changes"),
    "lifecycle": ("ignore_changes", "ignore_change", "argument in google_storage_bucket.main.lifecycle"),
    "all-ignored": ("ignore_changes = [labels]", "ignore_changes = all", "would hide every change"),
    "provisioner": (
        "  versioning {",
        '  provisioner "local-exec" {\n    command = "id"\n  }\n  versioning {',
        'unknown block in google_storage_bucket.main: "provisioner"',
    ),
    "variable": ("${var.name}", "${var.nam}", 'unknown variable "nam" (did you mean "name"?)'),
    "local": ("for_each = local.names", "for_each = local.name", 'unknown local "name"'),
    "resource": ("in google_storage_bucket.main", "in google_storage_bucket.mains", "unknown resource"),
    "data": ("data.google_project.main.number", "data.google_project.mine.number", "unknown data"),
    "of-resource": (".number", ".numbers", 'unknown attribute of google_project.main: "numbers"'),
    "of-block": ("versioning[0].enabled", "versioning[0].enable", "unknown attribute of google_storage_bucket.main"),
    "unindexed-block": ("versioning[0].enabled", "versioning.enabled", "index it before .enabled"),
    "unindexed": ('main["a"].versioning', "main.versioning", "has for_each: index it before .versioning"),
    "each": ("each.key", "each.keys", 'unknown attribute of each "keys"'),
    "no-each": ("  for_each = local.names\n", "", "each.key used without for_each"),
    "path": ("path.module", "path.here", 'unknown attribute of path "here"'),
    "function": ("toset(", "tosets(", 'unknown function "tosets"'),
    "argument": ("  type = string", "  types = string", "unknown argument in variable name"),
    "no-value": ("  value = { for", "  sensitive = true\n  description = { for", "output buckets: missing value"),
    "list": ('location = "EU"', 'location = ["EU"]', "a list where a string is needed"),
    "map": ('location = "EU"', 'location = { a = "EU" }', "a map where a string is needed"),
    "bool": ("enabled = false", 'enabled = "no"', '"no" is not a bool'),
    "module": ('data "google_project" "main" {}', 'module "x" {\n  source = "./x"\n}', 'unknown block type "module"'),
    "twice": ('data "google_project" "main" {}', 'data "google_project" "main" {}\n' * 2, "duplicate data"),
    "local-twice": (
        'names = toset(["a", "b"])',
        "names = toset([])\n}\nlocals {\n  names = 1",
        'duplicate local "names"',
    ),
    "once": (
        "  versioning {\n    enabled = false\n  }\n",
        "  versioning {\n    enabled = false\n  }\n" * 2,
        "only once",
    ),
    "unused": ("locals {", "locals {\n  unused = 1", "local.unused is never used"),
    "syntax": ("locals {", "locals {{", "syntax error"),
}


def test_a_module_without_faults():
    assert findings({"a.tf": WHOLE}, {}) == []


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault(name):
    old, new, said = FAULTS[name]
    assert WHOLE.count(old) >= 1
    found = findings({"a.tf": WHOLE.replace(old, new, 1)}, {})
    assert any(said in finding.message for finding in found), found
    assert all(finding.where.startswith("a.tf:") for finding in found)


def test_a_finding_names_the_line_of_its_block():
    found = findings({"a.tf": WHOLE.replace("location =", "locations =", 1)}, {})
    line = WHOLE.split('resource "google_storage_bucket"')[0].count("\n") + 1
    assert {finding.where for finding in found} == {f"a.tf:{line}"}


def test_a_file_that_cannot_be_read_hides_no_faults_of_the_others():
    found = findings(
        {"a.tf": WHOLE.replace('location = "EU"', 'location = "EU"\n  colour = 1'), "b.tf": "locals {\n  x = = 1\n}\n"},
        {},
    )
    assert len(found) == 2, "what the second declares is not known, so nothing is said of references"


BESIDE = {  # a file beside the module, what is in it, and what is said then
    "json": ("more.tf.json", "{}", "and no check does"),
    "override": ("override.tf", "", "and no check does"),
    "one's-override": ("storage_override.tf", "", "and no check does"),
    "override-json": ("x_override.tf.json", "{}", "and no check does"),
    "values": ("terraform.tfvars", "", "and no check does"),
    "more-values": ("x.auto.tfvars", "", "and no check does"),
    "variable": ("env/staging.tfvars", "nam = 1\n", 'unknown variable "nam" (did you mean "name"?)'),
    "role": ("env/staging.tfvars", 'name = "roles/run.admin"\n', "grants something"),
    "everybody": ("env/staging.tfvars", 'name = ["allUsers"]\n', "grants something"),
    "syntax": ("env/staging.tfvars", "name = = 1\n", "syntax error"),
}


@pytest.mark.parametrize("name", BESIDE)
def test_what_terraform_reads_besides(name, tmp_path):
    file, text, said = BESIDE[name]
    (tmp_path / "env").mkdir()
    (tmp_path / "a.tf").write_text(WHOLE)
    (tmp_path / "env" / "staging.tfvars").write_text('name = "x"\n')
    before = in_folder(tmp_path)
    (tmp_path / file).write_text(text)
    (found,) = {*in_folder(tmp_path)} - {*before}
    assert said in found.message
    assert found.where.endswith(f"/{file}:1")


def test_this_folder():
    assert in_folder(CHECKOUT / "terraform") == []
