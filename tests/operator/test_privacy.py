"""What retention would remove, and the purposes that people may consent to."""

import uuid


def test_retention_is_rehearsed(admin, alice, asked, told):
    """What is over is named, and stays."""
    admin.run(
        "INSERT INTO app.idempotent_answers (tenant_id, user_id, scope, fingerprint, status, headers, body, created_at)"
        " VALUES (:tenant, :user, 'x', 'x', 200, '{}', '', now() - interval '3 days')",
        tenant=alice.tenant_id,
        user=alice.user_id,
    )

    answer = asked("retention", "--dry-run", "--reason", "before the change")

    assert (answer["exit_code"], answer["removes"]["app.idempotent_answers"] >= 1) == (0, True)
    there = "SELECT count(*) FROM app.idempotent_answers WHERE tenant_id = :tenant"
    assert admin.run(there, tenant=alice.tenant_id) == [[1]]
    data = {"reason": "before the change", "tables": len(answer["removes"]), "rows": sum(answer["removes"].values())}
    assert told.one(answer["request_id"]) == ("retention.rehearsed", "success", None, data)


def test_a_purpose_and_its_next_version(tmp_path, asked, told):
    name, text = f"news-{uuid.uuid4().hex[:8]}", tmp_path / "text"
    text.write_text("We may mail you what is new. Ödön")

    first = asked("consent-purpose", name, "--text", str(text), "--marketing")

    assert (first["exit_code"], first["version"]) == (0, 1)
    assert told.one(first["request_id"]) == ("purpose.published", "success", name, {"version": 1})
    text.write_text("We may mail you what is new, once a month.")
    assert asked("consent-purpose", name, "--text", str(text))["version"] == 2
    found = asked("consent-purpose")["purposes"]
    assert [(line["version"], line["marketing"]) for line in found if line["purpose"] == name][-1] == (2, True)
    refused = asked("consent-purpose", name, "--text", str(text), "--no-marketing")
    assert refused["exit_code"] == 1
    assert told.one(refused["request_id"])[:2] == ("purpose.published", "denied")


def test_a_file_that_is_no_text(tmp_path, asked, told):
    text = tmp_path / "text"
    for content in (b"", b"\xff\xfe\x00", b"x" * 10_001):
        text.write_bytes(content)
        refused = asked("consent-purpose", "news", "--text", str(text))
        assert refused["exit_code"] == 1
        event = ("purpose.published", "denied", "news", {"result": "no_text"})
        assert told.one(refused["request_id"]) == event, "what was refused is told too"
