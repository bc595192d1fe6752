"""GET /v1/privacy/data-map and /v1/privacy/records-of-processing: what the register says, for who may know it."""

import pg8000.native
import pytest

from common.register import register
from functions.audit.privacy_records_schemas import DataMap, Records
from tests.conftest import Api, Person

MAP, RECORDS = "/v1/privacy/data-map", "/v1/privacy/records-of-processing"


def test_the_data_map_names_every_table_and_column(api: Api, alice: Person, admin: pg8000.native.Connection) -> None:
    answer = api.get(MAP, headers=alice)

    assert answer.status_code == 200
    assert DataMap().validate(answer.json) == {}
    mapped = {table["table"]: {column["name"] for column in table["columns"]} for table in answer.json["tables"]}
    live = admin.run(
        "SELECT n.nspname || '.' || c.relname, array_agg(a.attname::text) FROM pg_attribute a"
        " JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname IN ('app', 'identity', 'platform') AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
        " AND a.attnum > 0 AND NOT a.attisdropped GROUP BY 1"
    )
    assert mapped == {table: set(columns) for table, columns in live}


def test_both_records(api: Api, alice: Person) -> None:
    answer = api.get(RECORDS, headers=alice)

    assert answer.status_code == 200
    assert Records().validate(answer.json) == {}
    controller, processor = answer.json["controller"], answer.json["processor"]
    assert (controller["record"], processor["record"]) == ("Art. 30(1) GDPR", "Art. 30(2) GDPR")
    assert [each["name"] for each in processor["controllers"]] == [f"Organization {alice.tenant_id[:8]}"]
    for record in (controller, processor):
        assert record["security_measures"]
        for activity in record["activities"]:
            told = ("purposes", "legal_bases", "data_subjects", "data_categories", "time_limits")
            assert [name for name in told if not activity[name]] == [], activity["title"]
    tables = {limit["of"] for record in (controller, processor) for each in record["activities"]
            for limit in each["time_limits"]}  # fmt: skip
    assert {table.name for table in register().tables.values() if table.people} <= tables


@pytest.mark.parametrize("path", [MAP, RECORDS])
def test_who_may_read_them(api: Api, alice: Person, vera: Person, path: str) -> None:
    assert api.get(path, headers=vera).json["code"] == "permission_denied"
    assert api.get(path).status_code == 401
    assert api.get(f"{path}?format=csv", headers=alice).status_code == 422
