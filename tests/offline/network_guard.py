"""Refuse every connection that leaves this machine, and write it down for the test that caused it.

The hook sits below all libraries of Python; ``sitecustomize.py`` beside this file brings it into every
process that a test starts. What catches the error does not hide it: the file is read after each test.
"""

from __future__ import annotations

import os
import socket
import sys
from ipaddress import ip_address
from typing import Any

RECORD = "BIDS_XAI_TESTS_NETWORK_RECORD"
_CONNECTIONS = ("socket.connect", "socket.sendto", "socket.sendmsg")
_LOOKUPS = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")


def install() -> None:
    """Install the hook, once in a process; Python cannot take it away again."""
    if not hasattr(sys, "_bids_xai_network_guard"):
        sys._bids_xai_network_guard = True  # type: ignore[attr-defined]
        sys.addaudithook(_refuse)


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _CONNECTIONS:
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else None
    elif event in _LOOKUPS:
        host = arguments[0]
    else:
        return
    if host and not is_local(host):
        if os.environ.get(RECORD):
            with open(os.environ[RECORD], "a", encoding="utf-8") as stream:
                stream.write(f"{event} {host} by {' '.join(sys.argv)[:200]}\n")
        raise PermissionError(f"{event} of {host}: tests may not use the network")


def is_local(host: str | bytes) -> bool:
    """Return whether a name or an address is this machine's."""
    name = host.decode() if isinstance(host, bytes) else host
    if name in ("localhost", socket.gethostname()):
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
