"""What the peers' harness publishes, appended by our API: `python -m bench.publishing`, a process of bench.sessions.

The harness speaks Redis PUBLISH or posts a bare payload; our events come as `{"events": [{"type", "data"}]}`. This
follows the harness's Valkey, which comes and goes, and posts each message on one connection that is kept open.
"""

import argparse
import http.client
import time
from typing import Any
from urllib.parse import urlsplit

import valkey

CREATED = 201


def follow(port: int, channel: str, url: str, headers: dict[str, str]) -> None:
    """For ever: the process is ended from outside."""
    part = urlsplit(url)
    connection = http.client.HTTPConnection(part.netloc, timeout=10)
    while True:
        try:
            client: Any = valkey.Valkey(port=port)
            listening = client.pubsub(ignore_subscribe_messages=True)
            listening.subscribe(channel)
            for message in listening.listen():
                body = b'{"events":[{"type":"tick","data":%b}]}' % message["data"]
                post(connection, part.path, body, headers)
        except valkey.exceptions.ConnectionError:
            time.sleep(0.05)


def post(connection: http.client.HTTPConnection, path: str, body: bytes, headers: dict[str, str]) -> None:
    """Append once. Raises SystemExit unless that is answered 201."""
    try:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
    except (http.client.HTTPException, OSError):  # a new replica has taken the old one's place
        connection.close()
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
    text = answer.read()
    if answer.status != CREATED:
        raise SystemExit(f"appending was answered {answer.status}: {text.decode()}")


def main() -> None:
    """Follow until ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--valkey", type=int, required=True, help="the harness's port")
    parser.add_argument("--channel", required=True)
    parser.add_argument("--url", required=True, help="where events are appended")
    parser.add_argument("--header", action="append", default=[], help="Name: value")
    arguments = parser.parse_args()
    headers = dict(header.split(": ", 1) for header in arguments.header)
    follow(arguments.valkey, arguments.channel, arguments.url, headers | {"Content-Type": "application/json"})


if __name__ == "__main__":
    main()
