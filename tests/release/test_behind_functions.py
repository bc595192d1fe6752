"""What a release does behind the functions: the session API, then the gateway's document, and the way back of both."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from local.layout import catalog
from tests.release.behind import FIRST, Behind, standing
from tests.release.run_admin import TOKEN, RunAdmin, serving
from tests.release.test_rollout import JOBS, NEW, OLD, SERVICES, image
from tools.release.__main__ import TEMPLATE
from tools.release.api import Api, Failed
from tools.release.cloud import Cloud
from tools.release.door import Door
from tools.release.gateway import OURS, Gateway
from tools.release.parts import Part
from tools.release.rollout import Release, roll_back
from tools.release.sessions import Sessions

DOCUMENT = '{"auth": "${auth}", "projects": "${projects}", "version": 1}'


@pytest.fixture
def behind() -> Iterator[Behind]:
    with standing(Behind(OLD)) as running:
        yield running


@pytest.fixture
def admin() -> Iterator[RunAdmin]:
    with serving(RunAdmin(SERVICES, JOBS, OLD)) as running:
        yield running


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as made:
        made.headers["Authorization"] = TOKEN
        yield made


@pytest.fixture
def cloud(admin: RunAdmin, session: requests.Session) -> Cloud:
    return Cloud(session, lambda audience: f"for {audience}", "p", "europe-west1", admin.url, poll=0)


def parts(behind: Behind, session: requests.Session, document: str = DOCUMENT) -> list[Part]:
    api = Api(session, f"{behind.url}/v1", poll=0)
    sessions = Sessions(api, "p", "europe-west1", str, "http://{}")
    return [sessions, Gateway(api, "p", "europe-west1", document, str)]


def release(cloud: Cloud, wanted: str, behind: list[Part], pause: Callable[[int], None] = lambda percent: None) -> None:
    Release(cloud, wanted, list(SERVICES), ["operator"], str, pause, behind)()


def shares(admin: RunAdmin) -> list[dict[str, int]]:
    return [admin.share(name) for name in SERVICES]


def test_migrate_then_functions_then_sessions_then_gateway(
    admin: RunAdmin, behind: Behind, cloud: Cloud, session: requests.Session
) -> None:
    order: list[str] = []
    admin.acts = behind.acts = order
    release(cloud, NEW, parts(behind, session))

    first = {word: next(i for i, act in enumerate(order) if act.startswith(word)) for word in ("run", "deploy")}
    first |= {word: next(i for i, act in enumerate(order) if act.startswith(word)) for word in ("sessions", "gateway")}
    assert list(first) == sorted(first, key=first.__getitem__) == ["run", "deploy", "sessions", "gateway"]
    assert shares(admin) == [{NEW: 100}] * 3
    assert behind.image == NEW
    assert behind.document(behind.serving) == (
        '{"auth": "https://auth.example", "projects": "https://projects.example", "version": 1}'
    )


def test_the_functions_have_all_the_traffic_before_anything_behind_them_moves(
    admin: RunAdmin, behind: Behind, cloud: Cloud, session: requests.Session
) -> None:
    seen = []
    sessions, gateway = parts(behind, session)

    class Looking(Sessions):
        def publish(self, image: str, addresses: object) -> None:
            seen.append(shares(admin))

    assert isinstance(sessions, Sessions)
    looking = Looking(sessions.api, "p", "europe-west1", str, "http://{}")
    release(cloud, NEW, [looking, gateway])
    assert seen == [[{NEW: 100}] * 3]


@pytest.mark.parametrize("fault", ["sessions", "document", "gateway", "note"])
def test_what_fails_behind_the_functions_puts_everything_back(
    admin: RunAdmin, behind: Behind, cloud: Cloud, session: requests.Session, fault: str
) -> None:
    """Pods that never become ready; a document that Google does not take; a gateway that cannot be moved, or marked."""
    behind.failing = "PATCH dev-context" if fault == "note" else ""

    def pause(percent: int) -> None:
        behind.failing = "PATCH dev-context" if fault == "gateway" else ""

    wanted = image("stuck") if fault == "sessions" else NEW
    document = DOCUMENT.replace("version", "refused") if fault == "document" else DOCUMENT

    with pytest.raises(Failed, match=r"pods|FAILED|500"):
        release(cloud, wanted, parts(behind, session, document), pause)

    assert shares(admin) == [{OLD: 100}] * 3
    assert (behind.image, behind.serving) == (OLD, FIRST)
    stuck = fault == "gateway"  # it takes no note either
    assert [part.serving().before for part in parts(behind, session)] == ["", FIRST if stuck else ""]


def test_back_leads_to_the_document_and_the_image_before(
    admin: RunAdmin, behind: Behind, cloud: Cloud, session: requests.Session
) -> None:
    made = parts(behind, session)
    release(cloud, NEW, made)
    released = len(behind.acts)

    for _ in range(2):
        roll_back(cloud, list(SERVICES), made, str)

    assert (behind.image, behind.serving) == (OLD, FIRST)
    assert shares(admin) == [{OLD: 100}] * 3
    assert len(behind.acts) == released + 2, "the second time there is nothing to do"


def test_back_from_a_release_that_changed_nothing_behind_the_functions_leaves_that(
    admin: RunAdmin, behind: Behind, cloud: Cloud, session: requests.Session
) -> None:
    """The document that serves is the one that served before the last release, which had no new route."""
    made = parts(behind, session)
    release(cloud, NEW, made)
    document = behind.serving
    release(cloud, image("c3"), made)

    roll_back(cloud, list(SERVICES), made, str)
    assert (behind.image, behind.serving) == (NEW, document)
    assert shares(admin) == [{NEW: 100}] * 3


class Killed(Release):
    """Without a word: nothing is put back."""

    def _back(self, *about: object) -> None:
        """Not any more."""


@pytest.mark.parametrize("moment", ["traffic", "sessions", "gateway", "end"])
def test_back_from_a_release_that_was_killed_leads_to_the_one_before_it_and_no_further(
    admin: RunAdmin, behind: Behind, cloud: Cloud, session: requests.Session, moment: str
) -> None:
    release(cloud, NEW, parts(behind, session))
    document = behind.serving
    made = parts(behind, session, DOCUMENT.replace("1", "2"))

    def pause(percent: int) -> None:
        if moment == "traffic" and percent == 25:
            raise KeyboardInterrupt
        behind.failing = {"sessions": "PATCH sessions", "gateway": "PATCH dev-context"}.get(moment, "")
        admin.refuses = "operator" if moment == "end" else ""

    with pytest.raises((Failed, KeyboardInterrupt)):
        Killed(cloud, image("c3"), list(SERVICES), ["operator"], str, pause, made)()
    behind.failing = ""

    for _ in range(2):
        roll_back(cloud, list(SERVICES), made, str)
        assert (behind.image, behind.serving) == (NEW, document)
        assert shares(admin) == [{NEW: 100}] * 3


def test_a_release_that_failed_leaves_the_way_back_as_it_was(
    admin: RunAdmin, behind: Behind, cloud: Cloud, session: requests.Session
) -> None:
    made = parts(behind, session)
    release(cloud, NEW, made)
    with pytest.raises(Failed, match="pods"):
        release(cloud, image("stuck"), made)
    assert (behind.image, shares(admin)) == (NEW, [{NEW: 100}] * 3)

    roll_back(cloud, list(SERVICES), made, str)
    assert (behind.image, behind.serving, shares(admin)) == (OLD, FIRST, [{OLD: 100}] * 3)


def test_a_document_that_google_did_not_take_is_made_anew_the_next_time(
    behind: Behind, cloud: Cloud, session: requests.Session
) -> None:
    document = DOCUMENT.replace("version", "refused")
    with pytest.raises(Failed, match="FAILED"):
        release(cloud, NEW, parts(behind, session, document))
    behind.refused = "nothing any more"
    release(cloud, NEW, parts(behind, session, document))
    assert "refused" in behind.document(behind.serving)


def test_back_goes_on_where_one_part_cannot(
    admin: RunAdmin, behind: Behind, cloud: Cloud, session: requests.Session
) -> None:
    made = parts(behind, session)
    release(cloud, NEW, made)
    behind.failing = "PATCH dev-context"

    with pytest.raises(Failed, match=r"gateway: .*500"):
        roll_back(cloud, list(SERVICES), made, str)
    assert behind.image == OLD
    assert shares(admin) == [{OLD: 100}] * 3


def test_the_same_document_makes_no_config_and_old_ones_go(
    behind: Behind, cloud: Cloud, session: requests.Session
) -> None:
    release(cloud, NEW, parts(behind, session))
    release(cloud, image("c3"), parts(behind, session))
    assert behind.acts.count("POST config") == 1
    for version in "23":
        release(cloud, image("d" + version), parts(behind, session, DOCUMENT.replace("1", version)))
    release(cloud, image("e1"), parts(behind, session, DOCUMENT.replace("1", "4")))
    ours = [name for name in behind.configs if name.startswith(OURS)]
    assert len(ours) == 3, "the one that serves, the one before, and the one to which a failure would have led"
    assert FIRST in behind.configs, "that is Terraform's"


def test_past_the_gateway_there_is_none(session: requests.Session, cloud: Cloud, admin: RunAdmin) -> None:
    with standing(Behind(OLD, gateway=False)) as behind:
        release(cloud, NEW, parts(behind, session))
        roll_back(cloud, list(SERVICES), parts(behind, session), str)
    assert shares(admin) == [{OLD: 100}] * 3


def test_the_real_document_gets_the_address_of_every_service(behind: Behind, session: requests.Session) -> None:
    gateway = Gateway(Api(session, f"{behind.url}/v1", poll=0), "p", "europe-west1", TEMPLATE.read_text(), str)
    gateway.publish("", {name: f"https://{name}.example" for name in catalog()})
    assert "${" not in behind.document(behind.serving)


class _Front(BaseHTTPRequestHandler):
    """Answers `/health/ready` with each status of the list, and the last one from then on."""

    statuses: list[int]

    def do_GET(self) -> None:
        self.send_response(self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0])
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize(("statuses", "released"), [([200], True), ([502, 200, 503, 200], True), ([200, 503], False)])
def test_a_front_door_that_is_not_well_puts_everything_back(
    admin: RunAdmin, behind: Behind, cloud: Cloud, session: requests.Session, statuses: list[int], released: bool
) -> None:
    handler = type("Handler", (_Front,), {"statuses": [*statuses]})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        made = [*parts(behind, session), Door(f"http://127.0.0.1:{server.server_port}", str, pause=0)]
        if released:
            release(cloud, NEW, made)
        else:
            with pytest.raises(Failed, match="answers 503"):
                release(cloud, NEW, made)
        server.shutdown()
    assert shares(admin) == [{NEW if released else OLD: 100}] * 3
    assert (behind.image == NEW) is (behind.serving != FIRST) is released


def test_a_build_that_is_cancelled_puts_back(admin: RunAdmin) -> None:
    """Cloud Build ends a step with SIGTERM."""
    script = (
        "import signal, sys, time, tools.release.__main__ as m\n"
        "def work(given):\n"
        "    try:\n        sys.stdout.write('begun\\n'); sys.stdout.flush(); time.sleep(60)\n"
        "    except BaseException as stopped:\n        sys.stdout.write(type(stopped).__name__); raise\n"
        "m._work = work\n"
        f"sys.exit(m.main(['--project', 'p', '{OLD}']))\n"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": "."}) as process:
        assert process.stdout
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=30)[0] == "KeyboardInterrupt"
    assert process.returncode == 1
