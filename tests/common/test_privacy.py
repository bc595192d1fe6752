"""What the law wants told, computed from the register: the data map, both records of Art. 30, Art. 15."""

import json

import pytest

from common import privacy
from common.privacy import Operator, article_15, collected_from, data_map, erasure, portability, records_of_processing
from common.register import register

US = Operator(
    name="Example GmbH",
    contact="Hauptstraße 1, 10115 Berlin, privacy@example.com",
    representative="Example Ireland Ltd, Dublin",
    data_protection_officer="dpo@example.com",
    supervisory_authority="The commissioner of Berlin",
    mail_provider="Post AG, Germany",
)
NOBODY = Operator()


def tables(controller):
    return [table for table in register().tables.values() if table.controller == controller]


def test_the_map_has_every_table_column_and_reference():
    found = {entry["table"]: entry for entry in data_map(US)["tables"]}

    assert set(found) == set(register().tables)
    for name, table in register().tables.items():
        assert [each["name"] for each in found[name]["columns"]] == list(table.columns)
        assert [each["rule"] for each in found[name]["references"]] == [each.rule for each in table.references]


def test_the_map_says_what_a_copy_holds():
    entries = {entry["table"]: entry for entry in data_map(US)["tables"]}
    copied = {each["name"] for each in entries["app.tasks"]["columns"] if each["export"]}

    assert copied == set(register().tables["app.tasks"].exported)
    assert not any(each["export"] for each in entries["identity.refresh_tokens"]["columns"])


def test_the_map_has_the_places_beside_the_tables():
    places = {entry["place"] for entry in data_map(US)["places"]}

    assert len(places) == len(register().places)
    assert any("Cloud Logging" in place for place in places)
    assert any("Backups" in place for place in places)


def test_everything_is_json_of_names_that_the_document_explains():
    document = json.loads(json.dumps(data_map(US)))
    recipients = {each["name"] for each in document["recipients"]}

    for entry in document["tables"] + document["places"]:
        assert set(entry["people"]) <= set(document["people"])
        assert set(entry["data"]) <= set(document["data"])
        assert set(entry["recipients"]) <= recipients
        assert entry["activity"] in {each["name"] for each in document["activities"]}


@pytest.mark.parametrize(
    ("kind", "law", "controller"), [("controller", "Art. 30(1)", "platform"), ("processor", "Art. 30(2)", "tenant")]
)
def test_a_record_holds_each_table_about_people_of_its_controller_once(kind, law, controller):
    record = records_of_processing(kind, US)
    limits = [limit["of"] for activity in record["activities"] for limit in activity["time_limits"]]

    assert record["record"].startswith(law)
    assert record[kind]["name"] == "Example GmbH"
    of_tables = [name for name in limits if name in register().tables]
    assert sorted(of_tables) == sorted(table.name for table in tables(controller) if table.people)
    assert len(set(limits)) == len(limits)


def test_a_record_has_all_that_article_30_wants():
    """(1)(a) to (g): who, purposes, people and data, recipients, transfers, time limits, measures."""
    record = records_of_processing("controller", US)

    assert record["controller"]["contact"].endswith("privacy@example.com")
    assert record["controller"]["data_protection_officer"] == "dpo@example.com"
    assert record["controller"]["representative"] == "Example Ireland Ltd, Dublin"
    assert record["security_measures"]
    for activity in record["activities"]:
        for wanted in ("purposes", "legal_bases", "data_subjects", "data_categories", "recipients", "time_limits"):
            assert activity[wanted], (activity["title"], wanted)
    security = next(each for each in record["activities"] if each["activity"] == "security")
    assert any("Twilio" in each and "Art. 45" in each for each in security["transfers"])


def test_the_processors_record_names_its_controllers_and_where_their_content_is():
    mine = {"name": "Acme", "contact": ""}
    record = records_of_processing("processor", US, controllers=[mine])
    kept = [limit["of"] for activity in record["activities"] for limit in activity["time_limits"]]

    assert record["controllers"] == [mine]
    assert {place.title for place in register().places.values() if place.content} <= set(kept)
    assert records_of_processing("processor", US)["controllers"]


def test_there_is_no_third_record():
    with pytest.raises(KeyError):
        records_of_processing("recipient", US)


def test_article_15_tells_every_point():
    """(1)(a) purposes, (b) data, (c) recipients, (d) periods, (e), (f) rights, (g) source, (h), and (2) transfers."""
    told = article_15(US)

    assert {entry["table"] for entry in told["processing"]} == {
        table.relation for table in register().tables.values() if table.subjects
    }
    for entry in told["processing"]:
        for wanted in ("purpose", "legal_basis", "data_categories", "recipients", "storage_period", "collected_from"):
            assert entry[wanted], (entry["table"], wanted)
        assert len(entry["erasure"]) == len(entry["your_role"])
    rights = " ".join(told["rights"])
    assert all(f"Art. {article}" in rights for article in ("15", "16", "17", "18", "20", "21", "77", "7(3)"))
    assert told["supervisory_authority"] == "The commissioner of Berlin"
    assert "Art. 22" in told["automated_decisions"]
    assert "Twilio" in told["transfers_to_third_countries"]
    assert "Post AG, Germany" in told["recipients"]["mail"]


def test_who_does_not_state_its_name_is_told_apart():
    assert "OPERATOR_NAME" in article_15(NOBODY)["operator"]["name"]
    assert "DPO_CONTACT" in records_of_processing("processor", NOBODY)["processor"]["data_protection_officer"]
    assert "OPERATOR_" not in json.dumps(article_15(US)["operator"])


def test_the_settings_name_the_operator(monkeypatch):
    required = ("SERVICE", "DATABASE_URL", "SECRETS_DIR", "PUBLIC_URL", "SERVICE_URL")
    stated = {"OPERATOR_NAME": US.name, "OPERATOR_CONTACT": US.contact, "MAIL_PROVIDER": US.mail_provider}
    stated |= {"OPERATOR_REPRESENTATIVE": US.representative}
    stated |= {"DPO_CONTACT": US.data_protection_officer, "SUPERVISORY_AUTHORITY": US.supervisory_authority}
    for name, value in {**dict.fromkeys(required, "x"), **stated}.items():
        monkeypatch.setenv(name, value)
    privacy.settings.cache_clear()
    try:
        assert privacy.operator() == US
        assert article_15() == article_15(US)
    finally:
        privacy.settings.cache_clear()


def of(name):
    return register().tables[name]


@pytest.mark.parametrize(
    ("name", "portable", "why"),
    [
        ("identity.accounts", True, "provided data"),
        ("identity.login_sessions", True, "observed data"),
        ("identity.devices", False, "not processed by contract or consent"),
        ("identity.refresh_tokens", False, "derived by the service"),
        ("identity.login_locks", False, "not in the person's copy"),
        ("app.tasks", None, "the organization's basis"),
        ("platform.deletions", False, "not processed by contract or consent"),
    ],
)
def test_what_article_20_covers(name, portable, why):
    assert of(name).portable is portable
    assert why in portability(of(name))


def test_from_whom_data_are():
    assert collected_from(of("identity.email_changes")) == "the person"
    assert "use of the service" in collected_from(of("identity.devices"))
    assert "who invited her" in collected_from(of("app.invitations"))


def test_what_an_erasure_does_is_told_as_the_register_says():
    invited, inviter = of("app.invitations").subjects
    author, assignee = of("app.tasks").subjects

    assert erasure(invited, of("app.invitations")) == "the row is deleted"
    assert erasure(inviter, of("app.invitations")) == "invited_by is emptied"
    assert erasure(author, of("app.tasks")).endswith("under the policy `erase`: the row is deleted")
    assert erasure(assignee, of("app.tasks")) == "the row stays, assignee_id then points to nobody"
    assert erasure(of("app.audit_events").subjects[0], of("app.audit_events")) == (
        "the row stays without personal, personal_salt"
    )
