"""DELETE /v1/exports/{id}: cancels a running export, deletes the file of a ready one."""

from tests.conftest import last_audit_event, wait_until
from tests.exports.conftest import fetch


def test_a_ready_one_loses_its_file(api, admin, alice, exports, backstage):
    export_id = exports.request(alice)
    exports.ended(alice, export_id)
    url = api.get(f"/v1/exports/{export_id}/download", headers=alice).headers["Location"]

    assert api.delete(f"/v1/exports/{export_id}", headers=alice).status_code == 204

    assert exports.state(alice, export_id)["status"] == "expired"
    assert api.get(f"/v1/exports/{export_id}/download", headers=alice).status_code == 409
    assert last_audit_event(admin, alice, "export.deleted")["resource_id"] == export_id
    wait_until(lambda: backstage.objects(export_id) == [], 20, "the removal")
    assert fetch(url).status_code == 404


def test_a_running_one_is_cancelled_and_leaves_nothing(
    api, admin, alice, exports, backstage, standing_still, in_the_middle, inbox
):
    with standing_still():
        export_id = exports.request(alice)
        in_the_middle(alice, export_id)
        assert api.delete(f"/v1/exports/{export_id}", headers=alice).status_code == 204
        assert exports.state(alice, export_id)["status"] == "cancelled"
        assert last_audit_event(admin, alice)["action"] == "export.cancelled"

    def removed():
        return admin.run("SELECT removed_at FROM platform.exports WHERE id = :id", id=export_id)[0][0]

    wait_until(removed, 30, "the removal")
    wait_until(lambda: backstage.objects(export_id) == [], 30, "an empty prefix")
    assert exports.state(alice, export_id)["status"] == "cancelled"
    assert exports.ended(alice, exports.request(alice))["status"] == "ready"
    inbox.wait_for(alice.email, "export is ready")
    assert len(inbox.messages(alice.email)) == 1


def test_again_changes_nothing(api, admin, alice, exports):
    export_id = exports.request(alice)
    exports.ended(alice, export_id)
    api.delete(f"/v1/exports/{export_id}", headers=alice)
    event = last_audit_event(admin, alice, "export.deleted")

    assert api.delete(f"/v1/exports/{export_id}", headers=alice).status_code == 204
    assert last_audit_event(admin, alice, "export.deleted") == event
