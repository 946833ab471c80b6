"""Which requests the server accepts: checked before anything of a request's body is read.

Every web page in a browser on this machine, and every user of it, can reach a server on loopback. The browser sends a
page's Origin. A page whose own name resolves to loopback (DNS rebinding) sends that name as the Host. Only those who
were given the token can send it.
"""

from __future__ import annotations

import hmac
import socket
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

BODY_BYTES = 16 << 20  # a million token ids are written in 9 MB
EVERYWHERE = "0.0.0.0"
OPEN = ("/health",)  # says only that there is a server


@dataclass(frozen=True, slots=True)
class Guard:
    """ASGI middleware before `app`: clients must send `token`. `host` is the name or address of the server."""

    app: ASGIApp
    token: str
    host: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request with an error (401, 403, 413 or 415), or hand it to `app`."""
        refusal = self._refusal(scope["method"], scope["path"], Headers(scope=scope))
        await (refusal or self.app)(scope, receive, send)

    def _refusal(self, method: str, path: str, headers: Headers) -> JSONResponse | None:
        host = headers.get("host", "").lower()
        if not _means_us(host, self.host):
            return refused(403, "the Host header names another server; ask for the address that serve printed")
        if any(origin.lower() != f"http://{host}" for origin in headers.getlist("origin")):
            return refused(403, "web pages of other origins may not ask this server")
        if path not in OPEN and not self._knows_token(headers.get("authorization", "")):
            return refused(401, "send the token that serve announced: Authorization: Bearer TOKEN")
        if method in ("POST", "PUT"):
            if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
                return refused(415, "send JSON, as Content-Type: application/json")
            if int(headers.get("content-length", "0")) > BODY_BYTES:
                return too_long()
        return None

    def _knows_token(self, authorization: str) -> bool:
        scheme, _, given = authorization.partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(given.encode(), self.token.encode())


def refused(status: int, message: str) -> JSONResponse:
    """An error as one line of JSON. It closes the connection, since the rest of the body is not read."""
    headers = {"connection": "close"} | ({"www-authenticate": "Bearer"} if status == 401 else {})
    return JSONResponse({"error": {"message": message}}, status, headers)


def too_long() -> JSONResponse:
    """The 413 response to a body of more than BODY_BYTES."""
    return refused(413, f"a request has at most {BODY_BYTES} bytes")


def _means_us(given: str, host: str) -> bool:
    """Whether a Host header names the server that listens on `host`: loopback's names, or what `host` names."""
    try:
        name = urlsplit(f"//{given}").hostname or ""
    except ValueError:
        return False
    if name in ("localhost", host.lower()):
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return host == EVERYWHERE and name == socket.gethostname().lower()
    return address.is_loopback or host == EVERYWHERE  # no page can rebind an address
