"""What the deployment does when it is asked as a client asks."""

import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import requests
from pg8000.exceptions import DatabaseError, InterfaceError

from migrations.connection import connected
from tools.preflight.google import Unanswered
from tools.preflight.items import AFTER, BEFORE, CHECKLIST, Context, Finding, Status, judged

SECONDS = 20
LEFT = timedelta(days=14)
REQUESTS, AT_ONCE = 200, 10  # a fifth of what a person may ask for in an hour
WITHIN = 1.0  # seconds, for 99 of 100: terraform/slo.tf promises it
item = CHECKLIST.item


def _get(context: Context, path: str, token: str = "") -> requests.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    verify = str(context.authorities) if context.authorities else True
    try:
        return requests.get(
            context.origin + path, headers=headers, timeout=SECONDS, allow_redirects=False, verify=verify
        )
    except requests.RequestException as error:
        raise Unanswered(f"{context.url}{path}: {type(error).__name__}") from error


@item(BEFORE, "TLS certificate valid, TLS 1.3")
def certificate(context: Context) -> Finding:
    """A handshake of our own, by the authorities of this machine or those given."""
    url = urlsplit(context.origin)
    if url.scheme != "https":
        return Finding(Status.FAIL, f"{context.url} is not https")
    trusting = ssl.create_default_context(cafile=str(context.authorities) if context.authorities else None)
    host = url.hostname or ""
    try:
        with (
            socket.create_connection((host, url.port or 443), timeout=SECONDS) as plain,
            trusting.wrap_socket(plain, server_hostname=host) as secure,
        ):
            version, shown = secure.version(), secure.getpeercert() or {}
    except ssl.SSLError as error:
        return Finding(Status.FAIL, f"{host}: {error.reason}")
    except OSError as error:
        raise Unanswered(f"{host}: {type(error).__name__}") from error
    ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(shown["notAfter"])), UTC)
    problems = [] if version == "TLSv1.3" else [f"{version} was agreed on"]
    if ends - datetime.now(UTC) < LEFT:
        problems.append(f"it ends on {ends:%Y-%m-%d} and was not renewed")
    return judged(problems, f"{version}, valid until {ends:%Y-%m-%d}")


@item(AFTER, "Health checks passing")
def health(context: Context) -> Finding:
    """Alive, and ready with database and cache."""
    found = {path: _get(context, path).status_code for path in ("/health/", "/health/ready")}
    return judged([f"{path}: {status}" for path, status in found.items() if status != 200], ", ".join(found))


@item(AFTER, "The schema is this release's")
def schema(context: Context) -> Finding:
    """The newest migration of the repository is the newest one of the database."""
    if not context.database:
        raise Unanswered("no database was asked: --database")
    newest = max(path.stem for path in (context.root / "migrations").glob("[0-9]*.sql"))
    name = urlsplit(context.database).path.split("/")[-1]
    try:
        with connected(context.database, name) as connection:
            rows = connection.run("SELECT max(name) FROM migrations.applied")
    except (DatabaseError, InterfaceError, OSError) as error:
        raise Unanswered(f"the database: {type(error).__name__}") from error
    applied = rows[0][0] if rows else None
    return judged([] if applied == newest else [f"{applied} in the database, {newest} here"], newest)


@item(AFTER, "API endpoints responding")
def endpoints(context: Context) -> Finding:
    """Every public path of the catalog leads to its function: refused or answered, but neither lost nor broken."""
    problems, paths = [], [path for entry in context.catalog["services"].values() for path in entry["paths"]]
    for path in paths:
        answer = _get(context, path)
        ours = answer.headers.get("X-Request-Id") is not None
        if answer.status_code >= 500 or not ours:
            problems.append(f"{path}: {answer.status_code}{'' if ours else ', not from a function'}")
    return judged(problems, f"{len(paths)} paths")


@item(AFTER, "Authentication working")
def authentication(context: Context) -> Finding:
    """Nobody gets in without a token or with a wrong one; a person does with hers."""
    refused = {
        name: _get(context, "/v1/auth/me", token).status_code for name, token in (("no", ""), ("a wrong", "x.y.z"))
    }
    problems = [f"{name} token: {status}" for name, status in refused.items() if status != 401]
    if problems:
        return Finding(Status.FAIL, "; ".join(problems))
    if not context.token:
        raise Unanswered("refusals are right; no log-in was tried: PREFLIGHT_TOKEN")
    let_in = _get(context, "/v1/auth/me", context.token).status_code
    return judged([] if let_in == 200 else [f"a good token: {let_in}"], "without, wrong and good token")


@item(AFTER, "Access tokens are signed by a key that verifiers do not have")
def algorithm(context: Context) -> Finding:
    """The public keys; a shared key shows none."""
    keys = _get(context, "/.well-known/jwks.json").json().get("keys", [])
    return judged([] if keys else ["no public key: JWT_ALGORITHM is HS256"], f"{len(keys)} public keys")


@item(AFTER, "Multi-tenant isolation verified")
def isolation(context: Context) -> Finding:
    """Two people of two organizations: neither finds, by id or in a list, a project of the other's."""
    if not (context.token and context.other):
        raise Unanswered("needs access tokens of people of two organizations: PREFLIGHT_TOKEN, PREFLIGHT_OTHER_TOKEN")
    problems, seen = [], 0
    for mine, theirs in ((context.token, context.other), (context.other, context.token)):
        own = _get(context, "/v1/projects", mine).json().get("items", [])
        listed = {each["id"] for each in _get(context, "/v1/projects", theirs).json().get("items", [])}
        for project in own:
            seen += 1
            status = _get(context, f"/v1/projects/{project['id']}", theirs).status_code
            if status != 404 or project["id"] in listed:
                problems.append(f"project {project['id']} is seen from outside: {status}")
    if not seen:
        raise Unanswered("neither organization has a project to look for")
    return judged(problems, f"{seen} projects, asked for by the other organization")


@item(AFTER, "Load testing passed")
def load(context: Context) -> Finding:
    """A short load, as one person may bring it: nothing fails, and 99 of 100 answers come within the objective.

    What the deployment carries at most is another question: docs/scale.md.
    """
    if not context.token:
        raise Unanswered("needs the access token of a person: PREFLIGHT_TOKEN")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        told = list(pool.map(lambda _: _timed(context), range(REQUESTS)))
    statuses = [status for status, _ in told]
    if 429 in statuses:
        raise Unanswered("the limit of the person or of this address is used up: try again in an hour")
    slowest = sorted(seconds for _, seconds in told)[REQUESTS * 99 // 100 - 1]
    wrong = {status: statuses.count(status) for status in set(statuses) - {200}}
    problems = [f"{count} of {REQUESTS} answered {status}" for status, count in sorted(wrong.items())]
    if slowest > WITHIN:
        problems.append(f"99 of 100 within {slowest:.2f} s")
    return judged(problems, f"{REQUESTS} requests, {AT_ONCE} at a time: 99 of 100 within {slowest:.2f} s")


def _timed(context: Context) -> tuple[int, float]:
    begun = time.monotonic()
    return _get(context, "/v1/projects?limit=1", context.token).status_code, time.monotonic() - begun
