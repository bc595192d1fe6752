"""Cloud Logging as a reader sees it: `entries:list` over the log files of the stack (REST v2)."""

import asyncio
import base64
import binascii
import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web

from local import grants
from local.identity import Issuer
from local.layout import PROJECT, Layout
from local.logging_filter import Comparison, Filter, Unparsable, parse
from local.serving import arguments, bearer, http, refusal, stopped

FIELDS = {"resourceNames", "filter", "orderBy", "pageSize", "pageToken"}
ORDERS = ("timestamp asc", "timestamp desc")
USUAL_PAGE, LARGEST_PAGE = 50, 1000
MOST_BYTES = 32 * 1024 * 1024  # read for one page: Google answers an empty page too, when it has searched for long
BALANCER = "load-balancer"  # local/envoy_armor.py
TIMES = ("time", "at")  # where our services, and Envoy, write the moment


class Invalid(Exception):
    """A request that Google answers with 400."""


@dataclass(frozen=True)
class Place:
    """Where the next line begins: a log file's name, and bytes from its beginning."""

    name: str = ""
    position: int = 0

    def token(self) -> str:
        """As a page token."""
        return base64.urlsafe_b64encode(json.dumps([self.name, self.position]).encode()).decode()

    @classmethod
    def of(cls, token: str) -> "Place":
        """Raises Invalid."""
        if not token:
            return cls()
        try:
            name, position = json.loads(base64.urlsafe_b64decode(token))
            return cls(str(name), int(position))
        except (ValueError, TypeError, binascii.Error) as error:
            raise Invalid("page_token is not valid") from error


class Logs:
    """The files under `<root>/log`: one per service, those set aside included. A line is an entry."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def page(self, wanted: Filter | Comparison, size: int, place: Place) -> tuple[list[dict[str, Any]], Place | None]:
        """Up to `size` entries that match from a place on, and where to go on, None at the end."""
        found: list[dict[str, Any]] = []
        read = 0
        for path in sorted(self.folder.glob("*.log*")):
            if path.name < place.name:
                continue
            start = place.position if path.name == place.name else 0
            for position, line in _lines(path, start):
                if len(found) == size or read > MOST_BYTES:
                    return found, Place(path.name, position)
                read += len(line)
                entry = _entry(path, position, line.decode(errors="replace"), wanted)
                if entry is not None:
                    found.append(entry)
        return found, None

    def newest(self, wanted: Filter | Comparison, size: int, place: Place) -> tuple[list[dict[str, Any]], Place | None]:
        """The same from the newest on; a place is how many were before."""
        matching = (
            _entry(path, position, line.decode(errors="replace"), wanted)
            for path in sorted(self.folder.glob("*.log*"))
            for position, line in _lines(path, 0)
        )
        found = sorted(
            filter(None, matching), key=lambda entry: datetime.fromisoformat(entry["timestamp"]), reverse=True
        )
        end = place.position + size
        return found[place.position : end], Place(position=end) if len(found) > end else None


def _lines(path: Path, start: int) -> Iterator[tuple[int, bytes]]:
    """Each line from a position on, with its own; none of a file that is gone."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(start)
        position = start
        for line in file:
            yield position, line.rstrip(b"\n")
            position += len(line)


def _entry(path: Path, position: int, line: str, wanted: Filter | Comparison) -> dict[str, Any] | None:
    """The line as LogEntry, if it matches."""
    payload = _payload(line)
    if not wanted.holds(line, payload):
        return None
    moment = _moment(path, payload)
    if moment < wanted.since:
        return None
    name = path.name.partition(".")[0]
    entry = {
        "logName": f"projects/{PROJECT}/logs/{name}",
        "timestamp": moment.isoformat().replace("+00:00", "Z"),
        "insertId": hashlib.sha256(f"{path.name} {position}".encode()).hexdigest()[:16],
    } | (_of_the_balancer(payload) if name == BALANCER and isinstance(payload, dict) else _of_a_service(name, payload))
    return entry if wanted.finds(entry) else None


def _of_a_service(name: str, payload: dict[str, Any] | str) -> dict[str, Any]:
    resource = {"type": "cloud_run_revision", "labels": {"service_name": name}}
    return {"resource": resource, ("textPayload" if isinstance(payload, str) else "jsonPayload"): payload}


def _of_the_balancer(payload: dict[str, Any]) -> dict[str, Any]:
    """A request, in Google's words: who has answered it, and whether Cloud Armor refused it."""
    details = str(payload.get("statusDetails", ""))
    told = {"via_upstream": "response_sent_by_backend"}.get(details, details)
    if details.startswith("rbac_access_denied"):
        told = "denied_by_security_policy"
    return {
        "resource": {"type": "http_load_balancer", "labels": {"url_map_name": "main"}},
        "httpRequest": payload.get("httpRequest", {}),
        "jsonPayload": {"statusDetails": told},
    }


def _payload(line: str) -> dict[str, Any] | str:
    if line.startswith("{"):
        with suppress(ValueError):
            document = json.loads(line)
            if isinstance(document, dict):
                return document
    return line


def _moment(path: Path, payload: dict[str, Any] | str) -> datetime:
    """What the entry says, or else when its file was last written to: never earlier than the line."""
    if isinstance(payload, dict):
        for name in TIMES:
            with suppress(KeyError, TypeError, ValueError):
                moment = datetime.fromisoformat(payload[name])
                if moment.tzinfo is not None:
                    return moment.astimezone(UTC)
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


class Api:
    """POST /v2/entries:list."""

    def __init__(self, logs: Logs) -> None:
        self.logs = logs
        self.refused = grants.known() - grants.having("reads_logs")

    async def list(self, request: web.Request, caller: str) -> web.StreamResponse:
        """A page of entries, or Google's error. Nothing is logged: the filter holds what must stand nowhere."""
        if caller in self.refused:
            grants.refuse(caller, "logging.logEntries.list", f"projects/{PROJECT}")
            return refusal(403, "Permission denied for all log views")
        try:
            wanted, size, place, newest = _asked(await request.json())
        except (Invalid, Unparsable) as error:
            return refusal(400, str(error))
        except ValueError:
            return refusal(400, "Invalid JSON payload received.")
        read = self.logs.newest if newest else self.logs.page
        entries, rest = await asyncio.to_thread(read, wanted, size, place)
        answer: dict[str, Any] = {"entries": entries} if entries else {}
        return web.json_response(answer | ({"nextPageToken": rest.token()} if rest else {}))


def _asked(body: Any) -> tuple[Filter | Comparison, int, Place, bool]:
    """What, how many, from where, and whether the newest come first. Raises Invalid or Unparsable."""
    if not isinstance(body, dict) or not body.keys() <= FIELDS:
        raise Invalid("Invalid JSON payload received. Unknown name.")
    if body.get("resourceNames") != [f"projects/{PROJECT}"]:
        raise Invalid("resource_names must name the project of this stack, and nothing else")
    order = str(body.get("orderBy") or "timestamp asc")
    if order not in ORDERS:
        raise Invalid("order_by must be timestamp asc or timestamp desc")
    size = body.get("pageSize", 0)
    if not isinstance(size, int) or not 0 <= size <= LARGEST_PAGE:
        raise Invalid("page_size must be between 0 and 1000")
    place = Place.of(str(body.get("pageToken", "")))
    return parse(str(body.get("filter", ""))), size or USUAL_PAGE, place, order == ORDERS[1]


async def serve(layout: Layout) -> None:
    """Answer until asked to stop."""
    made = web.Application()
    made.router.add_post("/v2/entries:list", bearer(Issuer(layout.root), Api(Logs(layout.path("log"))).list))
    async with http(made, layout.ports["logging"]):
        await stopped()


def main() -> None:
    """Read the arguments and serve."""
    asyncio.run(serve(arguments(__doc__ or "").parse_args().layout))


if __name__ == "__main__":
    main()
