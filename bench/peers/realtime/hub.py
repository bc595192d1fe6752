"""One pub/sub connection per process, fanned out to bounded queues in memory."""

import asyncio

import redis.asyncio as redis


class Hub:
    def __init__(self, url):
        self.pubsub = redis.from_url(url).pubsub()
        self.listeners: dict[str, set[asyncio.Queue]] = {}

    async def join(self, name):
        queue = asyncio.Queue(256)
        if name in self.listeners:
            self.listeners[name].add(queue)
        else:
            self.listeners[name] = {queue}
            await self.pubsub.subscribe(name)
        return queue

    async def leave(self, name, queue):
        queues = self.listeners[name]
        queues.discard(queue)
        if not queues:
            del self.listeners[name]
            await self.pubsub.unsubscribe(name)

    async def run(self):
        await self.pubsub.subscribe("_keepalive")  # so that there is always one subscription to read
        while True:
            message = await self.pubsub.get_message(ignore_subscribe_messages=True, timeout=None)
            if message is None:
                continue
            for queue in self.listeners.get(message["channel"].decode(), ()):
                try:
                    queue.put_nowait(message["data"])
                except asyncio.QueueFull:  # a slow reader loses events, not the process
                    pass
