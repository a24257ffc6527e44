"""What the chat page lets in: the requests that its own browser code sends and one endpoint for programs, and no more.

Gradio's server answers many more (uploads, files, direct calls that walk round the queue); the page needs none of them.
"""

import asyncio
import ipaddress
import json
import re
import socket
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

BODY_BYTES = 2 * 1024**2
"""The longest conversation that is taken, 500 rounds, is some 1.3 MB as JSON when every letter needs four bytes."""
BODY_SECONDS = 20
OPEN_REQUESTS = 800
"""Each visitor holds two streams open; a process may usually hold 1,024 files open."""
READ = {"/", "/config", "/theme.css", "/favicon.ico", "/gradio_api/queue/data", "/gradio_api/startup-events",
        "/gradio_api/info"}  # fmt: skip
READ_BELOW = ("/assets/", "/static/", "/gradio_api/heartbeat/", "/gradio_api/call/paint/")
WRITE = {"/gradio_api/queue/join", "/gradio_api/call/paint"}
"""`call/paint` is the public endpoint (docs/painting.md); it waits in the page's own queue, and `info` describes it."""
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def is_loopback(host: str) -> bool:
    """Whether only this machine can open a page served at `host`."""
    return host in LOOPBACK


class Gate:
    """ASGI middleware in front of the page.

    A foreign site can make a browser send requests here: to a name of its own that it points at this machine (DNS
    rebinding), or from its own pages (CSRF). So `Host` must be a name of this page, and a request that writes and has
    an `Origin` must come from the page itself.
    """

    def __init__(self, app: App, host: str, names: Collection[str] = ()):
        """
        Args:
            host: the address at which the page is served.
            names: further names by which people reach it, as behind a proxy.
        """
        self.app = app
        self.public = not is_loopback(host)
        own = {host, socket.gethostname(), socket.getfqdn()} if self.public else set()
        self.given = {name.lower() for name in names}
        self.names = {*LOOPBACK, *self.given, *(name.lower() for name in own)}
        self.open = 0

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        if self.open >= OPEN_REQUESTS:
            await _answer(send, 503, "Too many visitors at once; try again in a minute.")
            return
        self.open += 1
        try:
            if refusal := self._refusal(scope):
                await _answer(send, *refusal)
            elif scope["method"] == "POST":
                await self._write(scope, receive, send)
            else:
                await self.app(scope, receive, send)
        finally:
            self.open -= 1

    def _refusal(self, scope: MutableMapping[str, Any]) -> tuple[int, str] | None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        path, host = scope["path"], headers.get("host", "")
        if not self._is_own(host):
            return 403, f"Host {host[:100]!r} is no name of this page; name it when serving: --name NAME."
        if scope["method"] in ("GET", "HEAD"):
            return None if path in READ or path.startswith(READ_BELOW) else (404, "There is nothing here.")
        if scope["method"] != "POST":
            return 405, "This page is read with GET and talked to with POST."
        if path not in WRITE:
            return 404, "There is nothing here."
        origin = headers.get("origin")
        if origin is not None and not self._is_page(origin, host):
            return 403, f"A page at {origin[:100]!r} may not talk to this one."
        return None

    def _is_own(self, host: str) -> bool:
        name = _name(host)
        if name in self.names:
            return True
        # An attack by DNS has a name of its own; an address is what somebody typed.
        return self.public and _is_address(name)

    def _is_page(self, origin: str, host: str) -> bool:
        scheme, _, authority = origin.partition("://")
        if scheme not in ("http", "https"):
            return False
        return authority.lower() == host.lower() or _name(authority) in self.given

    async def _write(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Read the whole body, which is JSON of bounded size, before anything else sees it."""
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        return
                    body += message.get("body", b"")
                    if len(body) > BODY_BYTES:
                        await _answer(send, 413, f"At most {BODY_BYTES // 1024**2} MiB are taken.")
                        return
                    if not message.get("more_body"):
                        break
        except TimeoutError:
            await _answer(send, 408, "The request took too long to arrive.")
            return
        try:
            json.loads(body, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            await _answer(send, 400, "Expected JSON.")
            return
        given = False

        async def replay() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": bytes(body), "more_body": False}

        await self.app(scope, replay, send)


def _name(authority: str) -> str:
    """The name or address in `name:port`, in lower case; "" where it is none."""
    match = _AUTHORITY.fullmatch(authority)
    return match[1].strip("[]").lower() if match else ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


async def _answer(send: Send, status: int, words: str) -> None:
    content = words.encode("utf-8", "replace")
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(content)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
