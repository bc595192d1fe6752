"""Targets must do the same work before their speed means anything."""

import json
from collections.abc import Callable
from typing import Any

from bench.harness.loading import Work
from bench.harness.site import USER_PASSWORD
from bench.harness.targets import Target, fill

Count = Callable[[str], str]  # SQL → what the target's database answers


def expect(target: Target, what: str, fine: bool) -> None:
    """Raises SystemExit unless it is so."""
    if not fine:
        raise SystemExit(f"{target.name}: verification failed: {what}")


def verify(target: Target, items: int, count: Count) -> None:
    """Tenants, tokens, bodies and rights: what each target with a list must do alike."""
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
        _creates(target, tokens[0], count)


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


def work(target: Target, operation: str, tokens: list[str], items: int = 50) -> Work | None:
    """The requests of an operation in rotation over the tenants, None when the target lacks it."""
    spec = target.get(operation)
    if spec is None:
        return None
    method = "POST" if operation == "create" else "GET"
    body = json.dumps(spec["body"]) if "body" in spec else ""
    listing = operation == "list" and "item_marker" in spec
    options: dict[str, Any] = {"items": items, "marker": spec["item_marker"]} if listing else {}
    more = spec.get("header", [])
    if not target.get("list", "items_key"):
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


def logins(target: Target, people: int) -> Work:
    """Log-ins of as many seeded people; each from a device that is known, where devices are."""
    spec = target.spec["login"]
    requests = []
    for number in range(1, people + 1):
        known = {"email": f"user{number}@example.com", "password": USER_PASSWORD, "device": f"device-{number}"}
        lines = target.headers() + fill(spec.get("header", []), known)
        requests.append(("POST", spec["path"], lines, json.dumps(fill(spec["body"], known))))
    return Work(requests)


def refreshes(target: Target, people: int) -> Work:
    """Refresh tokens to begin with; each answer's new one is sent next (or the same one again, where it stays)."""
    spec, found = target.spec["refresh"], []
    for method, path, lines, body in logins(target, people).requests:
        given = target.headers()
        status, answer = target.request(method, path, body=json.loads(body), more=[x for x in lines if x not in given])
        expect(target, f"log-in answered {status}", status == 200)
        found.append(answer[spec["token_key"]])
    if not spec.get("one_time", True):
        bodies = [json.dumps(fill(spec["body"], {"token": token})) for token in found]
        return Work([("POST", spec["path"], target.headers(), body) for body in bodies])
    requests = [("POST", spec["path"], target.headers(), token) for token in found]
    template = json.dumps(fill(spec["body"], {"token": "{chain}"}))
    return Work(requests, chain=f'"{spec["token_key"]}":%s*"([^"]+)"', template=template)
