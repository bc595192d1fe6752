"""Who caused an alert: networks that alone go beyond its limit, according to the load balancer's log.

Our own lines hold no address. The load balancer's do, for the days of general logs, and they are what Cloud Armor sees.
Source: https://cloud.google.com/load-balancing/docs/https/https-logging-monitoring
"""

import re
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from posixpath import normpath
from urllib.parse import unquote

from common import cloud_logs
from common.cloud_logs import Seen
from common.networks import NEVER, Network, apart
from common.settings import settings
from functions.incidents.answers import Answer

PREFIXES = {4: 32, 6: 64}  # whoever has an address of version 6 has all of its network
CROWD = 10  # times as many requests that succeed: many people behind one address, some of whom mistype
MOST_ENTRIES = 10_000  # ten of the sixty pages that a project may read a minute; more than ten networks fill them
SUSPECTS = 50  # looked at, the worst first
BALANCER = 'resource.type="http_load_balancer" AND jsonPayload.statusDetails="response_sent_by_backend"'
HOST = "^https?://[^/]+"
ODD = HOST + "[^?]*(%|//|/[.])"  # written otherwise than we do: what it asks for is known when it is decoded
METHODS = '("GET" OR "POST" OR "PUT" OR "PATCH" OR "DELETE")'
# Whoever succeeds here has proved nothing: preflights and pages for everybody would make a crowd of anybody.
PROOFS = "/v1/"
OPEN = (
    "/v1/(openapi[.]json|audit-events/keys|deletions/certificate-keys|consents/unsubscribe"
    "|auth/(register|email/resend|password/forgot|oidc/[^/]+/start))"
)


def spared() -> tuple[Network, ...]:
    """What is never blocked, NEVER_BLOCKED of the settings included. Raises ValueError where it is no list."""
    given = (text.strip() for text in settings().never_blocked.split(","))
    return NEVER + tuple(ip_network(text, strict=False) for text in given if text)


def network_of(address: str) -> Network | None:
    """What would be blocked for an address: itself, or its /64; None for what is no address."""
    try:
        known = ip_address(address)
    except ValueError:
        return None
    known = getattr(known, "ipv4_mapped", None) or known
    return ip_network((known, PREFIXES[known.version]), strict=False)


def may_block(network: Network) -> bool:
    """Whether it touches nothing that is never blocked."""
    return apart(network, spared())


def find(answer: Answer, since: datetime, until: datetime) -> list[tuple[Network, int]]:
    """Networks with more requests within the alert's time than its limit, and how many; the worst first.

    Of a flood the newest requests are looked at. Raises cloud_logs.Unsearchable.
    """
    if answer.requests is None:
        return []
    statuses = " OR ".join(map(str, answer.requests.statuses))
    wanted = f"{_came(since, until)} AND {_asked(answer)} AND httpRequest.status=({statuses})"
    read = cloud_logs.requests(wanted, MOST_ENTRIES)
    refused = [each for each in read if re.match(answer.requests.paths, asked_for(each.url))]
    counted = above(refused, answer)
    if not counted:
        return []
    crowds = _crowds(answer, refused, _beginning(read, since), until, [network for network, _ in counted])
    return [(network, count) for network, count in counted if network not in crowds]


def asked_for(url: str) -> str:
    """The path of an address, in the one way in which we write it."""
    path = re.sub(f"{HOST}([^?#]*).*", r"\1", url, flags=re.DOTALL)
    return normpath(re.sub(r"[/\\]+", "/", unquote(path)))


def _beginning(read: list[Seen], since: datetime) -> datetime:
    """Since when all is known: of a flood, since the oldest that was read."""
    return since if len(read) < MOST_ENTRIES else min(each.at for each in read)


def above(seen: Iterable[Seen], answer: Answer) -> list[tuple[Network, int]]:
    """Networks beyond the limit that may be blocked, with their requests; the worst first."""
    times: dict[Network, list[float]] = defaultdict(list)
    for each in seen:
        network = network_of(each.address)
        if network is not None:
            times[network].append(each.at.timestamp())
    worst = {network: len(found) for network, found in times.items() if _densest(found, answer.seconds) > answer.above}
    allowed = [(network, count) for network, count in worst.items() if may_block(network)]
    return sorted(allowed, key=lambda item: (-item[1], str(item[0])))[:SUSPECTS]


def _densest(times: list[float], seconds: int) -> int:
    """The most that fall into any so many seconds."""
    ordered = sorted(times)
    return max(bisect_right(ordered, start + seconds) - place for place, start in enumerate(ordered))


def _crowds(
    answer: Answer, refused: list[Seen], since: datetime, until: datetime, networks: list[Network]
) -> set[Network]:
    """Of these, networks from which so much succeeds that many people stand behind them."""
    wanted = f"{_came(since, until)} AND {_proved(answer)} AND ({_among(networks)})"
    read = cloud_logs.requests(wanted, MOST_ENTRIES)
    begin = _beginning(read, since)
    failed = Counter(network_of(each.address) for each in refused if each.at >= begin)
    succeeded = Counter(network_of(each.address) for each in read)
    return {network for network in networks if succeeded[network] >= max(1, CROWD * failed[network])}


def _among(networks: Iterable[Network]) -> str:
    return " OR ".join(f'ip_in_net(httpRequest.remoteIp, "{network}")' for network in networks)


def _came(since: datetime, until: datetime) -> str:
    """The filter of what a backend has answered between two moments."""
    return f'{BALANCER} AND timestamp>="{_moment(since)}" AND timestamp<"{_moment(until)}"'


def _asked(answer: Answer) -> str:
    """The filter of what an alert is about, and of what may be."""
    assert answer.requests is not None  # noqa: S101 - for the type: find() has looked
    return f"({_url(HOST + answer.requests.paths)} OR {_url(ODD)})"


def _proved(answer: Answer) -> str:
    """The filter of what succeeds only for somebody who has proved who they are."""
    assert answer.requests is not None  # noqa: S101 - for the type: find() has looked
    paths = f"{_url(HOST + answer.requests.paths)} AND {_url(HOST + PROOFS)}"
    others = f"NOT {_url(HOST + OPEN)} AND NOT {_url(ODD)}"
    succeeds = f"httpRequest.status>=200 AND httpRequest.status<300 AND httpRequest.requestMethod={METHODS}"
    return f"{paths} AND {others} AND {succeeds}"


def _url(expression: str) -> str:
    """A comparison with an RE2 expression that has neither quotes nor backslashes."""
    return f'httpRequest.requestUrl=~"{expression}"'


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
