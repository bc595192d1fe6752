"""Targets must do the same work before their speed means anything."""

import json
from collections.abc import Callable, Iterable
from typing import Any

from bench.harness.loading import Work
from bench.harness.site import USER_PASSWORD
from bench.harness.targets import Target, fill

Count = Callable[[str], str]  # SQL → what the target's database answers


def expect(target: Target, what: str, fine: bool) -> None:
    """Raises SystemExit unless it is so."""
    if not fine:
        raise SystemExit(f"{target.name}: verification failed: {what}")


def verify(target: Target, items: int, count: Count, spare: int) -> None:
    """Tenants, tokens, bodies and rights: what each target with a list must do. Writes for tenant `spare` alone."""
    if not target.get("list", "items_key"):
        return
    tokens = target.tokens(5)
    seen = _listed(target, tokens, items)
    path = target.spec["list"]["path"]
    expect(target, "no token is refused", target.request("GET", path)[0] in (401, 403))
    head, claims, signature = tokens[0].split(".")
    forged = f"{head}.{claims}.{signature[::-1]}"
    expect(target, "a forged token is refused", target.request("GET", path, forged)[0] in (401, 403))
    own, foreign = next(iter(seen[0])), next(iter(seen[1]))
    one = target.spec["get"]["path"]
    status, item = target.request("GET", one.replace("{id}", own), tokens[0])
    expect(target, "own item", status == 200 and item["id"] == own)
    hidden = target.request("GET", one.replace("{id}", foreign), tokens[0])[0] in (403, 404)
    expect(target, "a foreign item is hidden", hidden)
    if target.get("create"):
        _creates(target, target.token(spare), count)


def _listed(target: Target, tokens: list[str], items: int) -> list[set[str]]:
    seen, path = [], target.spec["list"]["path"]
    key = target.get("list", "time_key", default="created_at")
    for token in tokens:
        status, page = target.request("GET", path, token)
        found = target.items(page) if status == 200 else []
        expect(target, f"list is {status} with {len(found)} items", len(found) == items)
        times = [item[key] for item in found]
        expect(target, "newest first", times == sorted(times, reverse=True))
        seen.append({item["id"] for item in found})
    expect(target, "tenants see distinct rows", len(set().union(*seen)) == sum(map(len, seen)))
    return seen


def _creates(target: Target, token: str, count: Count) -> None:
    make, path = target.spec["create"], target.spec["list"]["path"]
    body = fill(make["body"], {"unique": "verified"})
    status, item = target.request("POST", make["path"], token, body)
    expect(target, f"create is {status}", status == 201)
    listed = target.items(target.request("GET", path, token)[1])
    expect(target, "a created item is listed first", listed[0]["id"] == item["id"])
    refused = target.request("POST", make["path"], token, make["invalid"])[0]
    expect(target, "an invalid body is refused", refused in (400, 422))
    viewer = target.tokens(1, "viewer")[0]
    expect(target, "a viewer may read", target.request("GET", path, viewer)[0] == 200)
    expect(target, "a viewer may not write", target.request("POST", make["path"], viewer, body)[0] == 403)
    expect(target, "one audit row for a write", count(fill(make["audit_sql"], {"id": item["id"]})) == "1")


def work(target: Target, operation: str, tokens: list[str], items: int = 0) -> Work:
    """The requests of an operation in rotation over the tenants; of a list with so many items, where it is told."""
    spec = target.spec[operation]
    method = "POST" if operation == "create" else "GET"
    body = json.dumps(spec["body"]) if "body" in spec else ""
    marked = items and "item_marker" in spec
    options: dict[str, Any] = {"items": items, "marker": spec["item_marker"]} if marked else {}
    more = spec.get("header", [])
    if not target.mint:
        return Work([(method, spec["path"], [], body)])
    requests = []
    for token in tokens:
        paths = [spec["path"]]
        if "{id}" in spec["path"]:
            page = target.request("GET", target.spec["list"]["path"], token)[1]
            paths = [spec["path"].replace("{id}", item["id"]) for item in target.items(page)[:5]]
        requests += [(method, path, target.headers(token) + more, body) for path in paths]
    mixed = [request for first in range(5) for request in requests[first::5]]
    return Work(mixed, 201 if operation == "create" else 200, **options)


def logins(target: Target, people: Iterable[int]) -> Work:
    """Log-ins of seeded people; each from a device that is known, where devices are."""
    spec = target.spec["login"]
    requests = []
    for number in people:
        known = {"email": f"user{number}@example.com", "password": USER_PASSWORD, "device": f"device-{number}"}
        lines = target.headers() + fill(spec.get("header", []), known)
        requests.append(("POST", spec["path"], lines, json.dumps(fill(spec["body"], known))))
    return Work(requests)


def refresh_token(target: Target, person: int) -> str:
    """Of a new log-in of a seeded person."""
    ((method, path, lines, body),) = logins(target, [person]).requests
    more = [line for line in lines if line not in target.headers()]
    status, answer = target.request(method, path, body=json.loads(body), more=more)
    expect(target, f"log-in answered {status}", status == 200)
    return str(answer[target.spec["refresh"]["token_key"]])


def refreshes(target: Target, people: int) -> Work:
    """Refresh tokens to begin with; each answer's new one is sent next (or the same one again, where it stays)."""
    spec = target.spec["refresh"]
    tokens = [refresh_token(target, person) for person in range(1, people + 1)]
    if not spec.get("one_time", True):
        bodies = [json.dumps(fill(spec["body"], {"token": token})) for token in tokens]
        return Work([("POST", spec["path"], target.headers(), body) for body in bodies])
    requests = [("POST", spec["path"], target.headers(), token) for token in tokens]
    template = json.dumps(fill(spec["body"], {"token": "{chain}"}))
    return Work(requests, chain=f'"{spec["token_key"]}":%s*"([^"]+)"', template=template)


def refresh_each(target: Target, count: int) -> Work:
    """As many refreshes, each with a token of its own."""
    spec = target.spec["refresh"]
    bodies = [json.dumps(fill(spec["body"], {"token": refresh_token(target, 1 + n % 10)})) for n in range(count)]
    return Work([("POST", spec["path"], target.headers(), body) for body in bodies])
