"""Keeps the page's server local: it answers only its own page and connects to no other computer."""

import ipaddress
import sys
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

from saliency_gan.errors import StageError

HOST = "127.0.0.1"
HEADERS = {
    # gradio's page has inline scripts and compiles some of its own; all other sources and targets must be this server.
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval';"
    " style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self';"
    " worker-src 'self' blob:; form-action 'none'; base-uri 'self'; object-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class OwnPageOnly:
    """Middleware that answers only requests of the page itself.

    Every request needs this server's address in its Host header, so that no other host name can point here. Its Origin
    header must not name another page. Response headers forbid the browser to load anything from other servers.

    Args:
        app: The application that answers.
        port: Port of the server.
    """

    def __init__(self, app: Callable[[Message, Receive, Send], Awaitable[None]], port: int) -> None:
        self.app = app
        self.hosts = (f"{HOST}:{port}", f"localhost:{port}")

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        given = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        host = given.get("host", "")
        foreign = host not in self.hosts or given.get("origin", f"http://{host}") != f"http://{host}"
        # gradio would download an address that is given in the place of a file.
        if foreign or scope["type"] != "http" or "file=http" in scope["path"]:
            await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
            return await send({"type": "http.response.body", "body": b"This server answers to its own page alone."})

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *added]
            await send(message)

        await self.app(scope, receive, send_guarded)


@contextmanager
def no_connections() -> Iterator[None]:
    """Prevents this process, including gradio, from looking up host names and connecting to other computers."""
    _watch()
    _offline.append(True)
    try:
        yield
    finally:
        _offline.pop()


_offline: list[bool] = []
_watched: list[bool] = []


def _watch() -> None:
    """Adds an audit hook, which Python calls before it connects. Hooks cannot be removed, so `_offline` switches it on
    and off."""
    if not _watched:
        _watched.append(True)
        sys.addaudithook(_refuse)


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if not _offline:
        return
    if event == "socket.connect" or event == "socket.sendto":
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else HOST  # others are local sockets
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    else:
        return
    if not _is_this_computer(host):
        raise StageError(f"A connection to {host} was refused: while the page is open, nothing is fetched.")


def _is_this_computer(host: str | bytes | None) -> bool:
    name = host.decode("latin-1") if isinstance(host, bytes) else host
    if name in (None, "", "localhost"):
        return True
    try:
        return ipaddress.ip_address(str(name)).is_loopback
    except ValueError:
        return False
