"""The stand-in of Sentry: whose events it takes, what it shows of them, and the DSN of a stack."""

import gzip
import json

import pytest
import requests

from local import keys, stack
from local.layout import Layout
from local.secrets_store import SecretStore
from local.sentry import MOST_EVENTS, SLACK, Store, _told, parsed
from tests.local.conftest import running

ID = "ab" * 16
EVENT = {
    "event_id": ID,
    "level": "error",
    "timestamp": 1.5,
    "tags": {"service": "projects", "organization": "0123456789abcdef"},
    "exception": {
        "values": [
            {
                "type": "ValueError",
                "stacktrace": {
                    "frames": [
                        {"filename": "functions/projects/main.py", "lineno": 7, "in_app": True},
                        {"filename": "marshmallow/fields.py", "lineno": 9, "in_app": False},
                    ]
                },
            }
        ]
    },
}


def envelope(event=EVENT, **item):
    """The bytes of an envelope with one event."""
    text = json.dumps(event).encode()
    head = json.dumps({"type": "event", "length": len(text), **item}).encode()
    return b"\n".join([json.dumps({"event_id": event["event_id"]}).encode(), head, text, b""])


def dsn(layout):
    return (SecretStore(layout.root).latest("sentry-dsn") or b"").decode()


@pytest.fixture(scope="module")
def url(shared_layout):
    keys.introduce_sentry(shared_layout.path(), shared_layout.url("telemetry"))
    with running("local.telemetry", shared_layout, "telemetry"):
        yield shared_layout.url("telemetry")


def sent(url, key, body, project=1, packed=False):
    headers = {"X-Sentry-Auth": f"Sentry sentry_key={key}, sentry_version=7"} if key else {}
    if packed:
        body, headers = gzip.compress(body), headers | {"Content-Encoding": "gzip"}
    return requests.post(f"{url}/api/{project}/envelope/", data=body, headers=headers, timeout=5).status_code


def test_it_takes_what_has_the_key_of_the_dsn_and_shows_it(shared_layout, url):
    key = dsn(shared_layout).removeprefix("http://").split("@")[0]
    assert [sent(url, each, envelope()) for each in (None, "cd" * 16)] == [403, 403]
    assert sent(url, key, envelope(), project=2) == 403
    assert [sent(url, key, body) for body in (b"", b"{}\nno item\n", b"\xff", b'{}\n{}\n{"tags":["a"]}')] == [400] * 4
    assert _told({"user": None, "tags": None})["user"] is None
    assert requests.get(f"{url}/events", timeout=5).json() == {"events": []}

    assert [sent(url, key, envelope(), packed=packed) for packed in (True, False)] == [200, 200]

    (told,) = requests.get(f"{url}/events?limit=5", timeout=5).json()["events"]
    assert (told["type"], told["service"], told["title"]) == ("error", "projects", "ValueError")
    assert told["place"] == "functions/projects/main.py:7"
    assert told["organization"] == "0123456789abcdef"
    assert requests.get(f"{url}/events/{ID}", timeout=5).json()["event"] == EVENT
    assert requests.get(f"{url}/events/{'0' * 32}", timeout=5).status_code == 404


def test_items_are_read_by_their_length_or_to_the_end_of_the_line():
    assert parsed(envelope())[1] == [({"type": "event", "length": len(json.dumps(EVENT))}, EVENT)]
    assert parsed(b'{}\n{"type":"event"}\n{"a":1}\n{"type":"event"}\n{"b":2}')[1][1][1] == {"b": 2}


def test_the_newest_stay(tmp_path):
    store = Store(tmp_path)
    for number in range(MOST_EVENTS + SLACK + 1):
        store.add({}, [({}, {"event_id": f"{number:032x}"})])

    assert store.connection.execute("SELECT count(*) FROM events").fetchone()[0] == MOST_EVENTS
    assert store.one("0" * 32) is None
    store.close()


def test_a_dsn_keeps_its_key_when_the_port_changes(tmp_path):
    place = Layout(str(tmp_path), {"telemetry": 18_000}, "")
    for given, wanted in (("http://127.0.0.1:18000", "18000"), ("http://127.0.0.1:18001", "18001")):
        keys.introduce_sentry(tmp_path, given)
        assert dsn(place).endswith(f"@127.0.0.1:{wanted}/1")
    kept = {version.payload.split(b"@")[0] for version in SecretStore(tmp_path).versions("sentry-dsn")}
    assert len(kept) == 1
    keys.introduce_sentry(tmp_path, "none")
    assert dsn(place) == "none"
    keys.introduce_sentry(tmp_path, "https://ab@o1.ingest.de.sentry.io/2")
    assert dsn(place) == "https://ab@o1.ingest.de.sentry.io/2"


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, "http://127.0.0.1:18000"),
        ({"SENTRY": "off"}, "none"),
        ({"TELEMETRY": "off"}, "none"),
        ({"TELEMETRY_ENDPOINT": "https://elsewhere.example"}, "none"),
        ({"SENTRY": "https://ab@o1.example/2", "TELEMETRY": "off"}, "https://ab@o1.example/2"),
    ],
)
def test_where_a_stack_tells_its_errors(environ, wanted):
    assert stack.sentry(Layout("/nowhere", {"telemetry": 18_000}, ""), environ) == wanted
