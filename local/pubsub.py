"""Pub/Sub as far as we use it: the topic `alerts` and its push subscription (REST v1), at least once, until taken.

Sources: https://cloud.google.com/pubsub/docs/push, https://cloud.google.com/pubsub/docs/handling-failures#exponential_backoff
"""

import asyncio
import base64
import binascii
import json
import time
import uuid
from datetime import UTC, datetime
from typing import Any

import aiohttp
from aiohttp import web

from local import grants
from local.backoff import Backoff
from local.durable import database
from local.identity import Issuer
from local.layout import PROJECT, Layout, service_account
from local.serving import bearer, refusal

TOPIC, SUBSCRIPTION = f"projects/{PROJECT}/topics/alerts", f"projects/{PROJECT}/subscriptions/alerts"
ACCOUNT = service_account("alerts")
SERVICE, PATH = "incidents", "/internal/alerts"
TAKEN = (102, 200, 201, 202, 204)
ACK_SECONDS = 300.0  # as Terraform sets it
KEPT_SECONDS = 86_400
LOOK_SECONDS = 0.2
SCHEMA = """
CREATE TABLE IF NOT EXISTS messages (
    id TEXT PRIMARY KEY, data TEXT NOT NULL, published REAL NOT NULL, due REAL NOT NULL, attempts INTEGER NOT NULL
);
"""


class Subscription:
    """Messages that were not taken yet, in `<root>/pubsub/messages.db`."""

    def __init__(self, layout: Layout, session: aiohttp.ClientSession) -> None:
        self.layout, self.session = layout, session
        self.issuer = Issuer(layout.root)
        self.connection = database(layout.path("pubsub", "messages.db"), SCHEMA)
        self.backoff = Backoff(10, 600, 16)

    def publish(self, data: bytes) -> str:
        """Take a message; its id. It is on disk then."""
        id, now = str(uuid.uuid4().int % 10**16), time.time()
        row = (id, base64.b64encode(data).decode(), now, now)
        self.connection.execute("INSERT INTO messages VALUES (?, ?, ?, ?, 0)", row)
        return id

    def waiting(self) -> int:
        """How many messages were not taken."""
        return int(self.connection.execute("SELECT count(*) FROM messages").fetchone()[0])

    async def keep_pushing(self) -> None:
        """Push what is due, until cancelled."""
        while True:
            statement = "SELECT * FROM messages WHERE due <= ? ORDER BY published LIMIT 1"
            row = self.connection.execute(statement, (time.time(),)).fetchone()
            if row is None:
                await asyncio.sleep(LOOK_SECONDS)
            elif await self.push(row["id"], row["data"], row["published"]):
                self.connection.execute("DELETE FROM messages WHERE id = ?", (row["id"],))
            else:
                self.postpone(row["id"], row["attempts"] + 1)

    def postpone(self, id: str, attempts: int) -> None:
        """Bring it again later; after a day, as Terraform sets it, never."""
        due = time.time() + self.backoff.interval(attempts)
        self.connection.execute("UPDATE messages SET due = ?, attempts = ? WHERE id = ?", (due, attempts, id))
        self.connection.execute("DELETE FROM messages WHERE published < ?", (time.time() - KEPT_SECONDS,))

    async def push(self, id: str, data: str, published: float) -> bool:
        """One delivery; whether it was taken."""
        audience = self.layout.run_url(SERVICE)
        moment = datetime.fromtimestamp(published, UTC).isoformat().replace("+00:00", "Z")
        message = {"attributes": {}, "data": data, "messageId": id, "message_id": id}
        body = {"message": message | {"publishTime": moment, "publish_time": moment}, "subscription": SUBSCRIPTION}
        headers = {"Authorization": f"Bearer {self.issuer.identity_token(ACCOUNT, audience)}"}
        deadline = aiohttp.ClientTimeout(total=ACK_SECONDS)
        try:
            async with self.session.post(audience + PATH, json=body, headers=headers, timeout=deadline) as response:
                await response.read()
                return response.status in TAKEN
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False


def application(subscription: Subscription) -> web.Application:
    """The REST method publish of the topic."""

    async def publish(request: web.Request, caller: str) -> web.StreamResponse:
        if caller in grants.known():
            grants.refuse(caller, "pubsub.topics.publish", TOPIC)
            return refusal(403, "User not authorized to perform this action.")
        try:
            messages: list[dict[str, Any]] = (await request.json())["messages"]
            given = [base64.b64decode(each["data"], validate=True) for each in messages]
        except (ValueError, LookupError, TypeError, binascii.Error):
            return refusal(400, "Invalid JSON payload received.")
        return web.json_response({"messageIds": [subscription.publish(each) for each in given]})

    made = web.Application()
    made.router.add_post(f"/v1/{TOPIC}:publish", bearer(subscription.issuer, publish))
    return made


def text(document: dict[str, Any]) -> bytes:
    """A document as the data of a message."""
    return json.dumps(document).encode()
