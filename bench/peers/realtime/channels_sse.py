"""Django Channels: an HTTP consumer that streams, groups over the redis pub/sub layer."""

import asyncio
import os

import django
from django.conf import settings

settings.configure(
    SECRET_KEY=os.environ["JWT_SECRET"],
    INSTALLED_APPS=["channels"],
    LOGGING_CONFIG=None,
    CHANNEL_LAYERS={
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": [os.environ["REDIS_URL"]], "capacity": 256},
        }
    },
)
django.setup()

from channels.generic.http import AsyncHttpConsumer  # noqa: E402
from channels.layers import get_channel_layer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.urls import path  # noqa: E402
from tokens import channel  # noqa: E402


class Events(AsyncHttpConsumer):
    group = None

    async def handle(self, body):
        headers = dict(self.scope["headers"])
        session = self.scope["url_route"]["kwargs"]["session"]
        self.group = channel(headers.get(b"authorization", b"").decode(), session)
        if self.group is None:
            await self.send_response(401, b"unauthorized")
            return
        await self.channel_layer.group_add(self.group, self.channel_name)
        await self.send_headers(headers=[(b"Content-Type", b"text/event-stream"), (b"Cache-Control", b"no-store")])
        await self.send_body(b": ok\n\n", more_body=True)

    async def http_request(self, message):
        # The stock consumer disconnects when handle() returns; a stream goes on until the client leaves.
        if "body" in message:
            self.body.append(message["body"])
        if not message.get("more_body"):
            await self.handle(b"".join(self.body))

    async def session_event(self, message):
        await self.send_body(b"data: " + message["data"].encode() + b"\n\n", more_body=True)

    async def disconnect(self):
        if self.group:
            await self.channel_layer.group_discard(self.group, self.channel_name)


class Publish(AsyncHttpConsumer):
    """POST body -> group_send: in Channels events are published through the layer."""

    async def handle(self, body):
        headers = dict(self.scope["headers"])
        group = channel(headers.get(b"authorization", b"").decode(), self.scope["url_route"]["kwargs"]["session"])
        if group is None:
            await self.send_response(401, b"unauthorized")
            return
        await get_channel_layer().group_send(group, {"type": "session.event", "data": body.decode()})
        await self.send_response(200, b"ok")


class Health(AsyncHttpConsumer):
    async def handle(self, body):
        await asyncio.sleep(0)
        await self.send_response(200, b"ok")


app = ProtocolTypeRouter(
    {
        "http": URLRouter(
            [
                path("events/<str:session>", Events.as_asgi()),
                path("publish/<str:session>", Publish.as_asgi()),
                path("health", Health.as_asgi()),
            ]
        )
    }
)
