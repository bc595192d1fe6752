"""The mail that says a package is ready."""

import re

from tests.exports.conftest import Package, fetch


def test_it_leads_to_the_package(api, alice, exports, inbox):
    export_id = exports.request(alice)
    state = exports.ended(alice, export_id)

    message = inbox.wait_for(alice.email, "export is ready")

    links = re.findall(r"http\S+", message["text"])
    assert Package(fetch(links[0]).content).sha256 == state["sha256"]
    assert links[1].endswith(f"/export#id={export_id}")
    assert api.get(links[1].partition("#")[0]).status_code == 200


def test_it_comes_once(admin, alice, backstage, inbox):
    job = backstage.queued(alice)
    backstage.run(job, "first", times=2)

    assert len(inbox.messages(alice.email)) == 1
    assert admin.run("SELECT mailed_at IS NOT NULL FROM platform.exports WHERE id = :job", job=job) == [[True]]


def test_two_cannot_send_it_at_once(admin, alice, backstage, inbox):
    job = backstage.queued(alice)
    backstage.step(job, "claim", "first")
    for part in backstage.step(job, "plan", "first").json["parts"]:
        backstage.step(job, f"parts/{part}", "first")
    backstage.step(job, "assemble", "first")
    admin.run("UPDATE platform.exports SET mail_claimed_until = now() + interval '1 minute' WHERE id = :job", job=job)

    assert backstage.step(job, "notify", "first").status_code == 503
    assert inbox.messages(alice.email) == []

    admin.run("UPDATE platform.exports SET mail_claimed_until = now() WHERE id = :job", job=job)
    assert backstage.step(job, "notify", "first").json == {"state": "sent"}
    assert len(inbox.messages(alice.email)) == 1
