import asyncio
import socket
import urllib.request
from typing import Any

import pytest

from saliency_gan.app.guard import OwnPageOnly, no_connections
from saliency_gan.errors import StageError


def status_of(path: str = "/", kind: str = "http", **headers: str) -> tuple[int, dict[bytes, bytes]]:
    """What a browser that sends these headers gets."""
    messages: list[Any] = []

    async def page(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"own", b"1")]})

    async def keep(message: Any) -> None:
        messages.append(message)

    given = [(name.encode(), value.encode()) for name, value in headers.items()]
    asyncio.run(OwnPageOnly(page, 7860)({"type": kind, "path": path, "headers": given}, None, keep))  # type: ignore[arg-type]
    return messages[0]["status"], dict(messages[0]["headers"])


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost:7860"])
def test_the_own_page_is_answered_and_told_to_load_nothing_from_elsewhere(host: str) -> None:
    status, headers = status_of(host=host, origin=f"http://{host}")
    assert status == 200 and headers[b"own"] == b"1"
    assert b"default-src 'self'" in headers[b"content-security-policy"]
    assert b"http" not in headers[b"content-security-policy"]
    assert status_of(host=host)[0] == 200


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"host": "evil.example:7860"},
        {"host": "127.0.0.1:7861"},
        {"host": "127.0.0.1:7860", "origin": "http://evil.example"},
        {"host": "127.0.0.1:7860", "origin": "null"},
        {"host": "127.0.0.1:7860", "origin": "http://localhost:7860"},
        {"host": "127.0.0.1:7860", "path": "/gradio_api/file=http://example.org/x.png"},
        {"host": "127.0.0.1:7860", "kind": "websocket"},
    ],
)
def test_others_are_not_answered(request_: dict[str, str]) -> None:
    assert status_of(**request_)[0] == 403


def test_nothing_is_fetched() -> None:
    with no_connections():
        for ask in (
            lambda: urllib.request.urlopen("http://example.org"),
            lambda: socket.getaddrinfo("example.org", 80),
            lambda: socket.gethostbyname(b"example.org"),
            lambda: socket.create_connection(("192.0.2.1", 80), 0.1),
            lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 53)),
            lambda: socket.socket(socket.AF_INET6).connect(("2001:db8::1", 80)),
        ):
            with pytest.raises(StageError, match="was refused"):
                ask()


def test_this_computer_can_be_reached() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        no_connections(),
        socket.create_connection(("localhost", server.getsockname()[1])) as here,
    ):
        assert here.getpeername() == server.getsockname()


def test_connections_are_free_again_afterwards() -> None:
    with no_connections():
        pass
    with socket.socket(type=socket.SOCK_DGRAM) as free:
        free.connect(("192.0.2.1", 9))  # a datagram socket only notes the address
        assert free.getpeername() == ("192.0.2.1", 9)
