"""Six bad log-ins a minute from one address: alert, block at the load balancer, record, word of it, and its end."""

import json

from tests.conftest import wait_until

MINE, NEIGHBOUR = "203.0.113.66", "203.0.113.67"


def entries(attack, message):
    """Lines of the service's log about this."""
    lines = attack.layout.path("log", "incidents.log").read_text().splitlines()
    found = (json.loads(line) for line in lines if line.startswith("{"))
    return [entry for entry in found if entry["message"] == message]


def test_an_attack_from_its_beginning_to_its_end(attack, admin):
    said = len(entries(attack, "an alert was answered"))
    for _ in range(6):
        assert attack.ask(MINE)[0] == 401
    assert attack.ask(NEIGHBOUR)[0] == 401

    def raised():
        """Monitoring looks every few seconds; here when it is asked to."""
        attack.evaluate()
        return attack.ranges() == [f"{MINE}/32"]

    wait_until(raised, 30, "the block")
    wait_until(lambda: attack.ask(MINE)[0] == 403, 10, "the refusal at the load balancer")
    assert attack.ask(MINE, "/health/ready")[0] == 403
    assert attack.ask(NEIGHBOUR)[0] == 401
    for header in ("X-Forwarded-For", "X-Client-Ip", "Forwarded"):  # what a client says of itself counts for nothing
        assert attack.ask(MINE, headers={header: NEIGHBOUR})[0] == 403
        assert attack.ask(NEIGHBOUR, headers={header: MINE})[0] == 401

    ((id, incident),) = admin.run("SELECT id, incident_id FROM platform.alerts WHERE name = 'failed_log_ins'")
    assert admin.run("SELECT title FROM platform.incidents WHERE id = :id AND closed_at IS NULL", id=incident) == [
        ["Somebody tries passwords"]
    ]
    wait_until(lambda: len(entries(attack, "an alert was answered")) > said, 10, "the line")
    line = entries(attack, "an alert was answered")[-1]
    assert (line["severity"], line["incident_id"], line["blocked"], line["left_over"]) == (
        *("CRITICAL", str(incident)),
        *(1, 0),
    )
    assert MINE not in attack.layout.path("log", "incidents.log").read_text()

    attack.tell(attack.notice(id, state="closed"))
    attack.later(3600)
    attack.run_job("blocks")
    wait_until(lambda: attack.ask(MINE)[0] == 401, 30, "the end of the block")
