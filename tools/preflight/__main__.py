"""`python -m tools.preflight ENVIRONMENT`: the deployment checklist of the security guides, item by item.

Without options it looks at the repository, the variables and the plan. --project asks the project with the caller's
credentials, --url the deployment itself. It changes nothing. Exit code 1 where an item failed; with --strict also where
one is not known.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import google.auth
import yaml
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import AuthorizedSession
from google.cloud import secretmanager

from tools.preflight import behaviour, offline, online  # noqa: F401 - each enters its items
from tools.preflight.google import Google
from tools.preflight.items import CHECKLIST, Context, Status
from tools.terraform.plan import Failed, binary, plan, running

ROOT = Path(__file__).parents[2]
SCOPE = "https://www.googleapis.com/auth/cloud-platform.read-only"


def main(arguments: list[str] | None = None) -> int:
    """Print a line for each item."""
    given = _parser().parse_args(arguments)
    try:
        context = _context(given)
    except (Failed, GoogleAuthError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return report(context, strict=given.strict, as_json=given.json)


def report(context: Context, *, strict: bool = False, as_json: bool = False) -> int:
    """Look at every item and say how it stands; the exit code."""
    found = [(item, item(context)) for item in CHECKLIST.items]
    if as_json:
        lines = [{"when": i.when, "item": i.text, "status": f.status.value, "seen": f.seen} for i, f in found]
        sys.stdout.write(json.dumps(lines, indent=1) + "\n")
    else:
        for when in dict.fromkeys(item.when for item, _ in found):
            sys.stdout.write(f"\n{when.capitalize()}\n")
            for item, finding in found:
                if item.when == when:
                    sys.stdout.write(f"  {finding.status.value:<9}  {item.text}\n             {finding.seen}\n")
    counts = {status: sum(finding.status is status for _, finding in found) for status in Status}
    if not as_json:
        sys.stdout.write("\n" + ", ".join(f"{number} {status.value}" for status, number in counts.items()) + "\n")
    return 1 if counts[Status.FAIL] or (strict and counts[Status.UNKNOWN]) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("environment", choices=["staging", "production"])
    parser.add_argument("--project", help="ask this project's APIs")
    parser.add_argument("--region", default="europe-west1")
    parser.add_argument("--endpoint", action="append", default=[], metavar="API=URL", help="another place of an API")
    parser.add_argument("--url", default="", help="origin of the API, e.g. https://api.example.com")
    parser.add_argument(
        "--authorities", type=Path, help="a PEM file of authorities to believe instead of the machine's"
    )
    parser.add_argument("--database", default="", help="a URL as DATABASE_ADMIN_URL: is the schema this release's?")
    parser.add_argument("--staging", default="", help="the project in which the release was tried")
    parser.add_argument("--strict", action="store_true", help="what is not known counts as failed")
    parser.add_argument("--json", action="store_true")
    parser.epilog = "PREFLIGHT_TOKEN, PREFLIGHT_OTHER_TOKEN: access tokens of people of two organizations."
    return parser


def _context(given: argparse.Namespace) -> Context:
    endpoints = {api: url for api, _, url in (text.partition("=") for text in given.endpoint) if url}
    if len(endpoints) < len(given.endpoint):
        raise Failed("--endpoint is API=URL")
    asked = None
    if given.project:
        credentials, _ = google.auth.default(scopes=[SCOPE])
        session = AuthorizedSession(credentials)  # type: ignore[no-untyped-call]
        options = {"api_endpoint": endpoints.get("secretmanager", "secretmanager.googleapis.com")}
        client = secretmanager.SecretManagerServiceClient(credentials=credentials, client_options=options)
        asked = Google(given.project, given.region, session, client, endpoints)
    made = None
    if binary():
        with running(ROOT, resolved=True) as run:
            run("validate", "-no-color")
            made = plan(run, given.environment)[1]
    return Context(
        ROOT,
        given.environment,
        yaml.safe_load((ROOT / "functions" / "catalog.yaml").read_text()),
        made,
        asked,
        given.url.rstrip("/"),
        given.authorities,
        os.environ.get("PREFLIGHT_TOKEN", ""),
        os.environ.get("PREFLIGHT_OTHER_TOKEN", ""),
        given.database,
        given.staging,
    )


if __name__ == "__main__":
    sys.exit(main())
