"""What the answer to attacks needs, in one process: Cloud Monitoring, Pub/Sub, and Cloud Armor's security policy."""

import asyncio
from contextlib import AsyncExitStack, suppress

import aiohttp

from local import compute, monitoring, pubsub
from local.layout import Layout
from local.serving import arguments, http, stopped


async def serve(layout: Layout, *, by_itself: bool) -> None:
    """Answer until asked to stop; without `by_itself` alerts are evaluated only when somebody asks."""
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session, AsyncExitStack() as listening:
        subscription = pubsub.Subscription(layout, session)
        watcher = monitoring.Monitoring(layout, lambda document: subscription.publish(pubsub.text(document)))
        for name, application in (
            ("compute", compute.application(layout)),
            ("pubsub", pubsub.application(subscription)),
            ("monitoring", monitoring.application(watcher)),
        ):
            await listening.enter_async_context(http(application, layout.ports[name]))
        working = [subscription.keep_pushing(), *([watcher.keep_looking()] if by_itself else [])]
        tasks = [asyncio.create_task(each) for each in working]
        ending = asyncio.create_task(stopped())
        await asyncio.wait([ending, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def main() -> None:
    """Read the arguments and serve."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--alerts", choices=["on", "off"], default="on", help="off: evaluated only by POST /evaluate")
    given = parser.parse_args()
    asyncio.run(serve(given.layout, by_itself=given.alerts == "on"))


if __name__ == "__main__":
    main()
