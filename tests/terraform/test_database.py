"""Cloud SQL: the version and limits that the code counts on, private, encrypted, backed up, silent about people."""

import re
from typing import Any

import pytest
import yaml

from local import postgres
from local.layout import administrators, catalog, logins, workloads
from migrations import apply
from tests.terraform.plans import Plan, plan

MAIN = "google_sql_database_instance.main"
REPLICA = "google_sql_database_instance.replica[0]"
# Those of https://cloud.google.com/sql/docs/postgres/flags that are used; one that is not there fails at apply.
# statement_timeout and log_parameter_max_length are not.
KNOWN = {
    "cloudsql.enable_pgaudit",
    "cloudsql.iam_authentication",
    "cloudsql.pgaudit_mask_literals",
    "idle_in_transaction_session_timeout",
    "lock_timeout",
    "log_autovacuum_min_duration",
    "log_checkpoints",
    "log_connections",
    "log_disconnections",
    "log_duration",
    "log_error_verbosity",
    "log_hostname",
    "log_lock_waits",
    "log_min_duration_statement",
    "log_min_error_statement",
    "log_min_messages",
    "log_statement",
    "log_temp_files",
    "max_connections",
    "max_prepared_transactions",
    "password_encryption",
    "pgaudit.log",
    "pgaudit.log_parameter",
    "TimeZone",
}


@pytest.fixture(params=["production", "staging"])
def planned(request: pytest.FixtureRequest) -> Plan:
    made: Plan = plan(request.param)
    return made


@pytest.fixture
def settings(planned: Plan) -> dict[str, Any]:
    found: dict[str, Any] = planned.resource(MAIN)["settings"][0]
    return found


def flags(settings: dict[str, Any]) -> dict[str, str]:
    return {flag["name"]: flag["value"] for flag in settings["database_flags"]}


def test_postgresql_18_with_a_standby(planned: Plan, settings: dict[str, Any]) -> None:
    assert planned.resource(MAIN)["database_version"] == "POSTGRES_18"
    assert planned.resource(MAIN)["region"].startswith("europe-")
    assert settings["availability_type"] == "REGIONAL"


def test_the_edition_has_the_machine(settings: dict[str, Any]) -> None:
    machines = {"ENTERPRISE_PLUS": r"db-perf-optimized-N-\d+", "ENTERPRISE": r"db-custom-\d+-\d+"}

    assert re.fullmatch(machines[settings["edition"]], settings["tier"])


def test_reached_privately_and_with_certificates_alone(planned: Plan, settings: dict[str, Any]) -> None:
    way = settings["ip_configuration"][0]

    assert way["ipv4_enabled"] is False
    assert not way.get("authorized_networks")
    assert way["private_network"] == planned.resource("google_compute_network.main")["id"]
    assert way["allocated_ip_range"] == planned.resource("google_compute_global_address.database")["name"]
    assert way["ssl_mode"] == "TRUSTED_CLIENT_CERTIFICATE_REQUIRED"
    assert settings["connector_enforcement"] == "REQUIRED"
    assert settings["data_api_access"] == "DISALLOW_DATA_API"
    assert flags(settings)["cloudsql.iam_authentication"] == "on"


def test_under_our_key(planned: Plan) -> None:
    assert (
        planned.resource(MAIN)["encryption_key_name"]
        == planned.resource('google_kms_crypto_key.main["database"]')["id"]
    )


def test_daily_backups_for_seven_days_and_every_moment_of_them(settings: dict[str, Any]) -> None:
    backup = settings["backup_configuration"][0]

    assert backup["enabled"] is True
    assert backup["point_in_time_recovery_enabled"] is True
    assert backup["transaction_log_retention_days"] == 7
    assert backup["backup_retention_settings"] == [{"retained_backups": 7, "retention_unit": "COUNT"}]
    assert backup["location"] == "eu"
    assert settings["final_backup_config"][0]["retention_days"] == 7
    assert settings["retain_backups_on_delete"] is False


def test_protected_from_deletion_twice(planned: Plan, settings: dict[str, Any]) -> None:
    assert planned.resource(MAIN)["deletion_protection"] is True
    assert settings["deletion_protection_enabled"] is True


def test_maintenance_comes_to_staging_first() -> None:
    tracks = {
        name: plan(name).resource(MAIN)["settings"][0]["maintenance_window"][0] for name in ("staging", "production")
    }

    assert tracks["staging"]["update_track"] == "canary"
    assert tracks["production"]["update_track"] == "stable"
    assert {(window["day"], window["hour"]) for window in tracks.values()} == {(7, 3)}


def test_every_flag_is_one_of_cloud_sql(settings: dict[str, Any]) -> None:
    assert set(flags(settings)) <= KNOWN


def test_limits_are_those_of_the_catalog(settings: dict[str, Any]) -> None:
    limit = yaml.safe_load(apply.CATALOG.read_text())["database"]["max_connections"]

    assert flags(settings)["max_connections"] == str(limit)
    assert flags(settings)["max_prepared_transactions"] == postgres.SETTINGS["max_prepared_transactions"] == "0"
    assert flags(settings)["idle_in_transaction_session_timeout"] == "60000"
    assert apply.SETTINGS["statement_timeout"] == "60s"  # no flag: set on the database itself


def test_the_log_tells_nothing_of_people(settings: dict[str, Any]) -> None:
    found = flags(settings)

    assert found["log_statement"] == "none"
    assert found["log_min_duration_statement"] == "-1"
    assert found["log_duration"] == "off"
    assert found["log_min_error_statement"] == "panic"
    assert found["log_error_verbosity"] == postgres.SETTINGS["log_error_verbosity"] == "terse"
    assert found["log_hostname"] == "off"
    assert apply.SETTINGS["log_parameter_max_length_on_error"] == "0"
    assert postgres.SETTINGS["log_parameter_max_length"] == "0"
    assert postgres.SETTINGS["log_min_error_statement"] == "panic"


def test_schema_and_roles_are_audited_without_values(settings: dict[str, Any]) -> None:
    found = flags(settings)

    assert found["cloudsql.enable_pgaudit"] == "on"
    assert found["pgaudit.log"] == "ddl,role"
    assert found["pgaudit.log_parameter"] == "off"
    assert found["cloudsql.pgaudit_mask_literals"] == "on"
    assert (found["log_connections"], found["log_disconnections"]) == ("on", "on")


def test_query_insights_record_no_client_and_no_tag(settings: dict[str, Any]) -> None:
    insights = settings["insights_config"][0]

    assert insights["query_insights_enabled"] is True
    assert insights["record_client_address"] is False
    assert insights["record_application_tags"] is False


def test_one_login_for_each_account_and_no_password(planned: Plan) -> None:
    users = planned.resources("google_sql_user")
    project = planned.variables["project"]

    assert {user["name"] for user in users.values()} == {
        f"dc-{name}@{project}.iam" for name in (*catalog(), *workloads(), *administrators())
    }
    assert {user["type"] for user in users.values()} == {"CLOUD_IAM_SERVICE_ACCOUNT"}
    assert not any(user.get("password") or user.get("password_wo") for user in users.values())
    assert not planned.resource(MAIN).get("root_password")


def test_only_the_migrating_job_administers(planned: Plan) -> None:
    users = planned.resources("google_sql_user")
    powerful = {address: user["database_roles"] for address, user in users.items() if user.get("database_roles")}

    assert powerful == {'google_sql_user.main["migrate"]': ["cloudsqlsuperuser"]}
    assert "migrate" not in logins()


def test_a_copy_in_another_region_has_a_key_of_its_own() -> None:
    production = plan("production")
    replica = production.resource(REPLICA)

    assert replica["region"] not in (production.variables["region"], "europe-west2", "europe-west6")
    assert replica["region"].startswith("europe-")
    key = production.references("google_sql_database_instance.replica", "encryption_key_name")
    assert "google_kms_crypto_key.replica[0].id" in key
    assert not any(name.startswith("google_kms_crypto_key.main") for name in key)
    assert production.resource("google_kms_key_ring.replica[0]")["location"] == replica["region"]
    assert replica["master_instance_name"] == production.resource(MAIN)["name"]
    assert flags(replica["settings"][0]) == flags(production.resource(MAIN)["settings"][0])
    for attribute in ("connector_enforcement", "data_api_access", "deletion_protection_enabled"):
        assert replica["settings"][0][attribute] == production.resource(MAIN)["settings"][0][attribute]
    assert replica["settings"][0]["ip_configuration"][0]["ipv4_enabled"] is False
    assert REPLICA not in plan("staging").addresses
