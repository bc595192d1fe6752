#!/usr/bin/env python3
"""Run one access request for a data subject through a Fides server (stdlib client).

Configures the Postgres connection, dataset and local storage on first use, then
submits the request and waits. Prints one JSON line: seconds, status, output file, records.
usage: access_request.py --url http://127.0.0.1:PORT --email user1@example.com --uploads DIR [--out FILE]
"""

import argparse
import json
import os
import shutil
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path


def field(name, category, **meta):
    return {"name": name, "data_categories": [category], **({"fides_meta": meta} if meta else {})}


def reference(name):
    return field(name, "user.unique_id", references=[{"dataset": "bench", "field": "users.id", "direction": "from"}])


DATASET = {
    "fides_key": "bench",
    "name": "bench",
    "collections": [
        {
            "name": "users",
            "fields": [
                field("id", "user.unique_id", primary_key=True),
                field("tenant_id", "system.operations"),
                field("email", "user.contact.email", identity="email", data_type="string"),
                field("role", "user.job_title"),
                field("created_at", "user.behavior"),
            ],
        },
        {
            "name": "projects",
            "fields": [
                field("id", "user.content", primary_key=True),
                reference("owner_id"),
                field("name", "user.content"),
                field("description", "user.content"),
                field("status", "user.content"),
                field("created_at", "user.content"),
                field("updated_at", "user.content"),
            ],
        },
        {
            "name": "audit_log",
            "fields": [
                field("id", "user.behavior", primary_key=True),
                reference("actor_id"),
                field("action", "user.behavior"),
                field("entity", "user.behavior"),
                field("entity_id", "user.behavior"),
                field("at", "user.behavior"),
            ],
        },
        {
            "name": "events",
            "fields": [
                field("id", "user.behavior", primary_key=True),
                reference("user_id"),
                field("kind", "user.behavior"),
                field("payload", "user.behavior"),
                field("created_at", "user.behavior"),
            ],
        },
    ],
}


class Api:
    def __init__(self, url):
        self.url, self.token = url + "/api/v1", None

    def __call__(self, method, path, body=None, form=False):
        data = None if body is None else (urllib.parse.urlencode(body) if form else json.dumps(body)).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded" if form else "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=600) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            sys.exit(f"{method} {path}: {error.code} {error.read()[:600].decode()}")
        if isinstance(answer, dict) and answer.get("failed"):
            sys.exit(f"{method} {path}: {json.dumps(answer['failed'])[:600]}")
        return answer


def configure(api):
    api("PATCH", "/connection", [{"key": "bench_pg", "name": "bench", "connection_type": "postgres", "access": "read"}])
    # Fides connects as the cluster's superuser: it has no notion of a tenant setting for row-level security.
    api(
        "PUT",
        "/connection/bench_pg/secret?verify=false",
        {
            "host": os.environ["PGHOST"],
            "port": int(os.environ["PGPORT"]),
            "dbname": os.environ["PGDATABASE"],
            "username": os.environ["PGUSER"],
            "password": os.environ["PGPASSWORD"],
            "ssh_required": False,
        },
    )
    api("PATCH", "/connection/bench_pg/dataset", [DATASET])
    api(
        "PATCH",
        "/storage/config",
        [
            {
                "key": "bench_local",
                "name": "bench local",
                "type": "local",
                "format": "json",
                "details": {"naming": "request_id"},
            }
        ],
    )
    api("PATCH", "/dsr/policy", [{"key": "bench_access", "name": "bench access"}])
    api(
        "PATCH",
        "/dsr/policy/bench_access/rule",
        [
            {
                "key": "bench_access_rule",
                "name": "bench access rule",
                "action_type": "access",
                "storage_destination_key": "bench_local",
            }
        ],
    )
    api(
        "PATCH",
        "/dsr/policy/bench_access/rule/bench_access_rule/target",
        [{"key": f"bench_{c}", "name": f"bench {c}", "data_category": c} for c in ("user", "system")],
    )


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--url", required=True)
    p.add_argument("--email", required=True)
    p.add_argument("--uploads", required=True)
    p.add_argument("--out")
    p.add_argument("--timeout", type=float, default=300)
    args = p.parse_args()
    api = Api(args.url)
    api.token = api(
        "POST",
        "/oauth/token",
        {
            "client_id": os.environ["FIDES__SECURITY__OAUTH_ROOT_CLIENT_ID"],
            "grant_type": "client_credentials",
            "client_secret": os.environ["FIDES__SECURITY__OAUTH_ROOT_CLIENT_SECRET"],
        },
        form=True,
    )["access_token"]
    configure(api)
    begin = time.perf_counter()
    made = api("POST", "/privacy-request", [{"identity": {"email": args.email}, "policy_key": "bench_access"}])
    request = made["succeeded"][0]["id"]
    while True:
        found = api("GET", f"/privacy-request?request_id={request}")["items"]
        status = found[0]["status"] if found else "missing"
        if status in ("complete", "error", "canceled", "denied") or time.perf_counter() - begin > args.timeout:
            break
        time.sleep(0.05)
    seconds = time.perf_counter() - begin
    result = {"status": status, "seconds": round(seconds, 3), "request": request}
    files = sorted(Path(args.uploads).glob(f"*{request}*"))
    if files:
        content = json.loads(files[0].read_text())
        result.update(
            file=str(files[0]),
            bytes=files[0].stat().st_size,
            records={k: len(v) for k, v in content.items() if isinstance(v, list)},
        )
        if args.out:
            shutil.copy(files[0], args.out)
    print(json.dumps(result))
    sys.exit(0 if status == "complete" else 1)


if __name__ == "__main__":
    main()
