"""Cloud Armor's slot of the incident automation in Envoy, and the load balancer's log, which knows clients' addresses.

A client that begins its connection with a line of the PROXY protocol comes from the address that the line names: so one
machine can play many clients, as tests do. What does not begin so comes from where it comes from.
Source: https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt
"""

from collections.abc import Iterable
from ipaddress import ip_network
from typing import Any

from local.envoy_parts import TYPES, named, typed
from local.layout import Layout

Json = dict[str, Any]

FILTER = "armor"
RBAC = "extensions.filters.http.rbac.v3.RBAC"
NOBODY = "192.0.2.0/32"
CLIENT_ADDRESS = "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"


def discovery(ranges: Iterable[str]) -> Json:
    """The file by which Envoy finds whom to refuse; it takes each new one at once."""
    networks = [ip_network(each, strict=False) for each in ranges]
    principals = [
        {"remote_ip": {"address_prefix": str(each.network_address), "prefix_len": each.prefixlen}} for each in networks
    ]
    policy = {"permissions": [{"any": True}], "principals": principals}
    refuses = typed(RBAC, rules={"action": "DENY", "policies": {"incident": policy}})
    return {"resources": [typed("config.core.v3.TypedExtensionConfig", name=FILTER, typed_config=refuses)]}


def refusing(layout: Layout) -> Json:
    """The filter that looks into that file: the first of all."""
    source = {"path_config_source": {"path": str(layout.path("gateway", "armor.json"))}, "resource_api_version": "V3"}
    return {"name": FILTER, "config_discovery": {"config_source": source, "type_urls": [TYPES + RBAC]}}


def proxied() -> Json:
    """The listener's filter that takes the line of the PROXY protocol where there is one."""
    filter = "extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"
    return named("envoy.filters.listener.proxy_protocol", typed(filter, allow_requests_without_proxy_protocol=True))


def balancer_log(layout: Layout) -> Json:
    """Google's fields of each request; the route's template in the place of the path, which may carry ids."""
    line = {
        "time": "%START_TIME%",
        "httpRequest": {
            "requestMethod": "%REQ(:METHOD)%",
            "requestUrl": "http://%REQ(:AUTHORITY)%%ROUTE_NAME%",
            "status": "%RESPONSE_CODE%",
            "remoteIp": CLIENT_ADDRESS,
        },
        "statusDetails": "%RESPONSE_CODE_DETAILS%",
    }
    config = typed(
        "extensions.access_loggers.file.v3.FileAccessLog",
        path=str(layout.path("log", "load-balancer.log")),
        log_format={"json_format": line},
    )
    return named("balancer", config)
