"""What `make lint` does with checkov's report and a plan that fails, and what it says without Terraform."""

import shutil

import pytest

from tools.terraform import checkov, lint
from tools.terraform.plan import CHECKOUT, Failed, binary, plan, running

WHY = "Deleted objects of people must be gone, not kept as versions."
SKIPS = {"skipped": {"CKV_1": {"resources": ["google_storage_bucket.main"], "why": WHY}}, "broken": {"CKV_9": WHY}}
REPORT = {
    "summary": {"parsing_errors": 0, "resource_count": 2},
    "results": {"failed_checks": [{"check_id": "CKV_1", "resource": 'google_storage_bucket.main["exports"]'}]},
}


def compared(found, crashed=frozenset({"CKV_9"}), skips=SKIPS):
    return list(checkov.compare(found, set(crashed), skips))


def test_what_is_skipped_with_a_reason():
    assert compared(checkov.failed([REPORT, REPORT])) == []


def test_what_is_not_skipped():
    assert compared({"CKV_1": {"google_storage_bucket.main"}, "CKV_2": {"google_sql_user.main"}}) == [
        "google_sql_user.main fails CKV_2"
    ]
    assert compared({"CKV_1": {"google_storage_bucket.main", "google_storage_bucket.new"}}) == [
        "google_storage_bucket.new fails CKV_1"
    ]


def test_a_skip_of_nothing():
    (said,) = compared({})
    assert said.startswith("google_storage_bucket.main passes CKV_1")


def test_a_skip_without_a_reason():
    skips = {"skipped": {"CKV_1": {"resources": ["google_storage_bucket.main"], "why": "noise"}}, "broken": {}}
    (said,) = compared({"CKV_1": {"google_storage_bucket.main"}}, frozenset(), skips)
    assert "without a reason" in said


def test_a_check_that_falls_over_itself_is_named():
    found = {"CKV_1": {"google_storage_bucket.main"}}
    assert [said.split(":")[0] for said in compared(found, {"CKV_9", "CKV_8"})] == ["CKV_8 falls over itself"]
    assert [said.split(":")[0] for said in compared(found, frozenset())] == ["CKV_9 works now"]


@pytest.mark.parametrize(("errors", "resources"), [(1, 0), (0, 0), (1, 5)])
def test_a_report_about_nothing_is_no_pass(errors, resources):
    summary = {"parsing_errors": errors, "resource_count": resources}
    with pytest.raises(RuntimeError, match="could not read the plan"):
        checkov.failed({"summary": summary, "results": {"failed_checks": []}})


def test_every_reason_is_a_sentence():
    listed = checkov.skips()
    reasons = [skip["why"] for skip in listed["skipped"].values()] + list(listed["broken"].values())
    assert all(len(why) >= checkov.SHORTEST_REASON and why.endswith(".") for why in reasons)


def test_without_terraform(monkeypatch, capsys):
    monkeypatch.setattr(lint, "binary", lambda: None)
    assert lint.main() == 0
    said = capsys.readouterr().out
    assert all(word in said for word in ("terraform is not installed", "NOT checked", "plan", "checkov", "fmt"))


BREAKS = {  # what only Terraform itself sees: text that is added to a copy, and what it says
    "value": ('output "x" {\n  value = tonumber("abc")\n}\n', "Invalid function argument"),
    "key": ('output "x" {\n  value = google_kms_crypto_key.main["misspelt"].id\n}\n', "does not identify an element"),
    "unknown-keys": (
        'resource "google_pubsub_topic" "x" {\n  name = each.key\n  for_each = toset([google_kms_key_ring.main.id])\n}',
        "Invalid for_each argument",
    ),
}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A repository whose terraform/ is small, so that its plans take a second."""
    root = tmp_path_factory.mktemp("small")
    (root / "terraform" / "env").mkdir(parents=True)
    shutil.copy(CHECKOUT / "terraform" / "versions.tf", root / "terraform")
    (root / "terraform" / "env" / "staging.tfvars").write_text('project = "a-project"\n')
    (root / "terraform" / "main.tf").write_text(
        'variable "project" {}\nvariable "region" {\n  default = "europe-west1"\n}\nlocals {\n  labels = {}\n}\n'
        'resource "google_kms_key_ring" "main" {\n  name = "main"\n  location = var.region\n}\n'
        'resource "google_kms_crypto_key" "main" {\n  for_each = toset(["a"])\n  name = each.key\n'
        "  key_ring = google_kms_key_ring.main.id\n}\n"
        'resource "google_service_account" "main" {\n  account_id = "dc-auth"\n}\n'
    )
    return root


def values(planned, address):
    resources = planned["planned_values"]["root_module"]["resources"]
    return next(item["values"] for item in resources if item["address"] == address)


@pytest.mark.skipif(binary() is None, reason="terraform is not installed")
class TestPlans:
    @pytest.mark.parametrize("name", BREAKS)
    def test_what_terraform_refuses(self, small, name):
        text, said = BREAKS[name]
        extra = small / "terraform" / "extra.tf"
        extra.write_text(text)
        try:
            with running(small, resolved=False) as run, pytest.raises(Failed, match=said):
                plan(run, "staging")
        finally:
            extra.unlink()

    def test_what_only_an_apply_can_know(self, small):
        with running(small, resolved=False) as run:
            said, planned = plan(run, "staging")
        assert "Plan: 3 to add" in said
        assert "key_ring" not in values(planned, 'google_kms_crypto_key.main["a"]')
        account = values(planned, "google_service_account.main")
        assert account["email"] == "dc-auth@a-project.iam.gserviceaccount.com", "the real provider knows that, too"

    def test_made_up(self, small):
        with running(small, resolved=True) as run:
            _, planned = plan(run, "staging", {"region": "europe-west3"})
        ring = values(planned, "google_kms_key_ring.main")
        assert ring["location"] == "europe-west3"
        assert (
            values(planned, 'google_kms_crypto_key.main["a"]')["key_ring"]
            == ring["id"]
            == "google_kms_key_ring/main/id"
        )
