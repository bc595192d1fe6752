"""`python -m tools.release --project P IMAGE [-- COMMAND …]`, and `python -m tools.release --project P --back`.

Makes missing keys, migrates, deploys every service of functions/catalog.yaml without traffic, asks the new revisions
for their health, and gives them the traffic step by step; on any failure, Ctrl-C or SIGTERM, the old ones have it
again. COMMAND runs last, for what must not come before the functions: `terraform apply` of the gateway's document.
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

from tools.release.cloud import Cloud, Failed
from tools.release.rollout import FIRST_JOBS, Release, prepare, roll_back

CATALOG = Path(__file__).parents[2] / "functions" / "catalog.yaml"
DIGEST = re.compile(r"[a-z0-9.-]+(:\d+)?/[a-z0-9/._-]+@sha256:[0-9a-f]{64}")
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SCOPE = "https://www.googleapis.com/auth/cloud-platform"


def main(arguments: list[str] | None = None) -> int:
    """0 released or rolled back, 1 failed and rolled back, 2 asked wrongly, 3 released but COMMAND failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", required=True)
    parser.add_argument("--region", default="europe-west1")
    parser.add_argument("--pause", type=float, default=60, help="seconds between two steps of the traffic")
    parser.add_argument("--endpoint", default="https://run.googleapis.com")
    parser.add_argument("--poll", type=float, default=2, help=argparse.SUPPRESS)
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
    credentials, _ = google.auth.default(scopes=[SCOPE])

    def identity(audience: str) -> str:
        return str(id_token.fetch_id_token(Request(), audience))  # type: ignore[no-untyped-call]

    session = AuthorizedSession(credentials)  # type: ignore[no-untyped-call]
    cloud = Cloud(session, identity, given.project, given.region, given.endpoint, given.poll)
    if given.schema:
        prepare(cloud, given.image, _say)
        return 0
    if given.back:
        roll_back(cloud, list(catalog["services"]), _say)
        return 0

    def pause(percent: int) -> None:
        time.sleep(given.pause if percent < 100 else 0)

    jobs = [name for name in catalog["jobs"] if name not in FIRST_JOBS]
    Release(cloud, given.image, list(catalog["services"]), jobs, _say, pause)()
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
