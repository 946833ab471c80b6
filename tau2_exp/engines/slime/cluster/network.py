"""This machine as others of an allocation reach it: its address, its interface, free ports."""

from __future__ import annotations

import fcntl
import socket
import struct
from contextlib import ExitStack

LOOPBACK = "127.0.0.1"
UNREACHABLE = "127.0.1.1"  # what /etc/hosts of Debian gives a machine's own name
SIOCGIFADDR = 0x8915  # netdevice(7): an interface's address


def own_address(name: str | None = None) -> str:
    """The address behind a node's name, else the one that packets leave this machine from."""
    if name is not None and (address := socket.gethostbyname(name)) != UNREACHABLE:
        return address
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent
        except OSError:
            return socket.gethostbyname(socket.gethostname())
        return probe.getsockname()[0]


def interface_of(address: str) -> str | None:
    """The network interface that has this address; None where none has it as its first."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                answer = fcntl.ioctl(any_socket.fileno(), SIOCGIFADDR, request)
            except OSError:
                continue  # it has no address
            if socket.inet_ntoa(answer[20:24]) == address:
                return name
    return None


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("", 0))
        return [one.getsockname()[1] for one in sockets]
