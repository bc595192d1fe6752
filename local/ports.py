"""The addresses of a stack: free ports that stay the same from start to start, and the door's own loopback address."""

import os
import random
import socket
import sys
from collections.abc import Iterable, Mapping

from local.layout import HOST

BLOCK = 128
LOWEST, HIGHEST = 18_000, 31_999  # below the range from which the kernel takes the ports of outgoing connections
DOOR_PORT = 3307
UNPRIVILEGED = 1024  # ports below it belong to the administrator on most machines
GIVEN = {
    "API_PORT": "gateway",
    "MAIL_PORT": "mail",
    "STATUS_PORT": "status",
    "SMTP_PORT": "smtp",
    "SMS_PORT": "sms",
    "POSTGRES_PORT": "postgres",
    "VALKEY_PORT": "valkey",
    "STORAGE_PORT": "storage",
}


class Occupied(Exception):
    """A port that the environment asks for cannot be had; the message says which and what to do."""


def is_free(port: int, host: str = HOST) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def reserve(wanted: int = 0) -> tuple[range, socket.socket]:
    """A block of ports that no other stack of this machine chooses from while the mark is open; the one with `wanted`
    in it if it can be had. Between choosing a port and listening on it seconds pass. Raises Occupied.

    The mark is an abstract socket (unix(7), Linux), which the kernel forgets together with the process.
    """
    firsts = list(range(LOWEST, HIGHEST + 1 - BLOCK, BLOCK))
    random.shuffle(firsts)
    for first in sorted(firsts, key=lambda first: wanted not in range(first, first + BLOCK)):
        mark = socket.socket(socket.AF_UNIX)
        try:
            if sys.platform == "linux":
                mark.bind(f"\0dev-context-ports-{first}")
        except OSError:
            mark.close()
        else:
            return range(first, first + BLOCK), mark
    raise Occupied("Too many stacks run on this machine.")


def choose(
    names: Iterable[str], earlier: Mapping[str, int], environ: Mapping[str, str], block: range
) -> dict[str, int]:
    """One port per name: the environment's, else the earlier one while it is free and in the block, else one of it.

    Raises Occupied.
    """
    chosen = {name: _given(variable, environ) for variable, name in GIVEN.items() if environ.get(variable)}
    taken = set(chosen.values())
    if len(taken) < len(chosen):
        raise Occupied(f"Two of {', '.join(GIVEN)} ask for the same port.")
    new = sorted(set(block) - set(earlier.values()))
    for name in names:
        if name in chosen:
            continue
        wanted = [port for port in (earlier.get(name, 0), *new) if port in block and port not in taken]
        port = next(filter(is_free, wanted), 0)
        if not port:
            raise Occupied(f"Other programs listen on too many of the ports {block.start} to {block.stop - 1}.")
        chosen[name] = port
        taken.add(port)
    return chosen


def _given(variable: str, environ: Mapping[str, str]) -> int:
    text = environ[variable]
    if not text.isdecimal() or not 0 < int(text) < 65_536:
        raise Occupied(f"{variable}={text} is not a port number.")
    if int(text) < UNPRIVILEGED and os.geteuid() != 0 and not is_free(int(text)):
        raise Occupied(f"Port {text} ({variable}) is for the administrator, or in use: give one from {UNPRIVILEGED}.")
    if not is_free(int(text)):
        raise Occupied(f"Port {text} ({variable}) is in use by another program: stop it, or give another {variable}.")
    return int(text)


def choose_door(earlier: str) -> str:
    """A loopback address whose port 3307 is free: the connector knows no other port."""
    if earlier and is_free(DOOR_PORT, earlier):
        return earlier
    if sys.platform != "linux":  # elsewhere 127.0.0.1 is the only loopback address
        return HOST
    while True:
        parts = [random.randint(1, 254) for _ in range(3)]  # noqa: S311 - not a secret
        address = "127." + ".".join(map(str, parts))
        if is_free(DOOR_PORT, address):
            return address
