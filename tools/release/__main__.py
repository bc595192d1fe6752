"""`python -m tools.release --project P IMAGE [-- COMMAND …]`, and `python -m tools.release --project P --back`.

Makes missing keys, migrates, deploys every service of functions/catalog.yaml without traffic, asks the new revisions
for their health, and gives them the traffic step by step; then the session API and the gateway's document. On any
failure, Ctrl-C or SIGTERM the old ones serve again. COMMAND runs last, for whatever must not come before.
docs/runbooks/deploy.md
"""

import argparse
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

import google.auth
import yaml
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import AuthorizedSession, Request
from google.oauth2 import id_token

from tools.release.api import Api, Failed
from tools.release.cloud import Cloud
from tools.release.door import Door
from tools.release.gateway import Gateway
from tools.release.parts import Part
from tools.release.rollout import FIRST_JOBS, Release, prepare, roll_back
from tools.release.sessions import Sessions

ROOT = Path(__file__).parents[2]
CATALOG = ROOT / "functions" / "catalog.yaml"
TEMPLATE = ROOT / "terraform" / "gateway.json.tftpl"
DIGEST = re.compile(r"[a-z0-9.-]+(:\d+)?/[a-z0-9/._-]+@sha256:[0-9a-f]{64}")
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# a cluster knows who calls by the address, which an access token tells with the second one alone
SCOPES = [f"https://www.googleapis.com/auth/{name}" for name in ("cloud-platform", "userinfo.email")]


def main(arguments: list[str] | None = None) -> int:
    """0 released or rolled back, 1 failed and rolled back, 2 asked wrongly, 3 released but COMMAND failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", required=True)
    parser.add_argument("--region", default="europe-west1")
    parser.add_argument("--pause", type=float, default=60, help="seconds between two steps of the traffic")
    parser.add_argument("--wait", type=float, default=0, help="seconds to wait for another release to end")
    parser.add_argument("--endpoint", default="https://run.googleapis.com")
    parser.add_argument("--poll", type=float, default=2, help=argparse.SUPPRESS)
    parser.add_argument(
        "--url", default="", help="the public origin, which has to be well at the end, or all goes back"
    )
    parser.add_argument("--back", action="store_true", help="to the revisions before the last release")
    parser.add_argument("--schema", action="store_true", help="keys, schema and logins alone: before a new function")
    parser.add_argument("image", nargs="?", help="by its digest")
    parser.add_argument("last", nargs="*", metavar="COMMAND", help="what comes behind the functions, after --")
    given = parser.parse_args(arguments)
    if given.back == bool(given.image):
        parser.error("an image or --back, one of them")
    if given.schema and given.last:
        parser.error("--schema releases nothing that a command could follow")
    if given.image and not DIGEST.fullmatch(given.image):
        parser.error("the image ends in @sha256: and 64 hexadecimal digits; a tag can be moved, a digest cannot")
    if given.last and not shutil.which(given.last[0]):
        parser.error(f"there is no {given.last[0]}")
    for each in STOPS:
        signal.signal(each, _stop)
    try:
        return _work(given)
    except (Failed, GoogleAuthError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 1


def _work(given: argparse.Namespace) -> int:
    catalog = yaml.safe_load(CATALOG.read_text())
    credentials, _ = google.auth.default(scopes=SCOPES)

    def identity(audience: str) -> str:
        return str(id_token.fetch_id_token(Request(), audience))  # type: ignore[no-untyped-call]

    session = AuthorizedSession(credentials)  # type: ignore[no-untyped-call]
    cloud = Cloud(session, identity, given.project, given.region, given.endpoint, given.poll)
    if given.schema:
        prepare(cloud, given.image, _say)
        return 0
    gateways = Api(session, "https://apigateway.googleapis.com/v1", given.poll)
    gateway = Gateway(gateways, given.project, given.region, TEMPLATE.read_text(), _say)
    clusters = Api(session, "https://container.googleapis.com/v1", given.poll)
    sessions = Sessions(clusters, given.project, given.region, _say)
    if given.back:
        roll_back(cloud, list(catalog["services"]), [gateway, sessions], _say)
        return 0

    def pause(percent: int) -> None:
        time.sleep(given.pause if percent < 100 else 0)

    jobs = [name for name in catalog["jobs"] if name not in FIRST_JOBS]
    parts: list[Part] = [sessions, gateway, *([Door(given.url.rstrip("/"), _say)] if given.url else [])]
    Release(cloud, given.image, list(catalog["services"]), jobs, _say, pause, parts, given.wait)()
    if given.last and (code := subprocess.run(given.last, check=False).returncode):
        _say(f"{given.last[0]} ended with {code}; the functions stay released")
        return 3
    return 0


def _stop(number: int, frame: FrameType | None) -> None:
    """Once: nothing interrupts the way back."""
    for each in STOPS:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _say(text: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S', time.gmtime())} {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
