"""Networks that are never refused at the load balancer, whatever a log or a person says."""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TypeAlias

Network: TypeAlias = IPv4Network | IPv6Network

# What no client on the Internet has, and Google's health checks.
# Sources: RFC 6890; https://cloud.google.com/load-balancing/docs/health-check-concepts#ip-ranges
NEVER = tuple(
    ip_network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.168.0.0/16", "224.0.0.0/4", "240.0.0.0/4"),
        *("::/128", "::1/128", "::ffff:0:0/96", "fc00::/7", "fe80::/10", "ff00::/8"),
        *("35.191.0.0/16", "130.211.0.0/22", "2600:2d00:1:1::/64", "2600:2d00:1:b029::/64"),
    )
)


def apart(network: Network, others: Iterable[Network]) -> bool:
    """Whether it touches none of them."""
    return not any(network.version == each.version and network.overlaps(each) for each in others)
