"""The web server of the page. It accepts requests only from this computer and only from its own page."""

import json
import secrets
import sys
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs

from saliency_gan.errors import StageError, UserError
from saliency_gan.rating.session import Session

HOST = "127.0.0.1"
LARGEST_BODY = 4096
"""Largest size of a request in bytes."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
PAGE = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}


class RatingServer(ThreadingHTTPServer):
    """Serves the page and saves its answers.

    It listens on 127.0.0.1. Every request needs two things. The Host header has to be this server's address, so that no
    other host name can point here. The request also needs the random token of `url`, which no other page knows. On a
    computer with several users, the others can see it on the browser's command line; `--browser false` avoids this.

    Args:
        session: Has the questions and saves the answers.
        port: Port; 0 takes any free one.

    Raises:
        UserError: If the port is taken.
    """

    daemon_threads = True

    def __init__(self, session: Session, port: int) -> None:
        self.session = session
        self.token = secrets.token_urlsafe(16)
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise UserError(
                f"Port {port} cannot be used ({error.strerror}): give another one with --port, or 0 for any."
            ) from None

    def handle_error(self, *_: Any) -> None:
        """Prints what went wrong, unless a browser only closed its connection."""
        error = sys.exception()
        if not isinstance(error, ConnectionError):
            print(f"saliency-gan: a request failed: {error!r}", file=sys.stderr)

    @property
    def url(self) -> str:
        """Address of the page, including the token."""
        return f"http://{HOST}:{self.server_port}/?token={self.token}"

    @property
    def hosts(self) -> tuple[str, str]:
        """The Host headers that a browser on this computer may send."""
        return f"{HOST}:{self.server_port}", f"localhost:{self.server_port}"


@dataclass(frozen=True)
class _Reply:
    body: bytes
    kind: str = "application/json"
    status: HTTPStatus = HTTPStatus.OK
    keep_seconds: int = 0


class _RefusedError(Exception):
    def __init__(self, status: HTTPStatus, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    server: RatingServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "saliency-gan", ""
    timeout = 60

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def log_message(self, *_: Any) -> None:
        """Logs nothing, to keep the terminal clean."""

    def _answer(self, handle: Callable[[str, dict[str, str], bytes], _Reply]) -> None:
        try:
            body = self._body() if self.command == "POST" else b""
            path, _, query = self.path.partition("?")
            given = {name: values[-1] for name, values in parse_qs(query).items()}
            self._check_caller(given)
            reply = handle(path, given, body)
        except _RefusedError as error:
            reply = _failure(error.status, error)
        except UserError as error:
            reply = _failure(HTTPStatus.BAD_REQUEST, error)
        except StageError as error:
            reply = _failure(HTTPStatus.INTERNAL_SERVER_ERROR, error)
        self._send(reply)

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdecimal()):
            raise _RefusedError(HTTPStatus.LENGTH_REQUIRED, "An answer says its length.")
        if len(length) > 9 or int(length) > LARGEST_BODY:
            raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"An answer has at most {LARGEST_BODY} bytes.")
        return self.rfile.read(int(length))

    def _check_caller(self, given: dict[str, str]) -> None:
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
        if host not in self.server.hosts or origin not in (None, f"http://{host}"):
            raise _RefusedError(HTTPStatus.FORBIDDEN, "This server answers to its own page alone.")
        if not secrets.compare_digest(given.get("token", "").encode(), self.server.token.encode()):
            raise _RefusedError(
                HTTPStatus.FORBIDDEN, "The address lacks this study's token: open the one that the terminal shows."
            )

    def _get(self, path: str, given: dict[str, str], _: bytes) -> _Reply:
        session = self.server.session
        if path in PAGE:
            name, kind = PAGE[path]
            page = (files("saliency_gan.rating") / name).read_text(encoding="utf-8")
            return _Reply(page.replace("{{token}}", self.server.token).encode(), f"{kind}; charset=utf-8")
        if path == "/study":
            return _json(session.describe())
        if path == "/answers":
            return _json(session.answers_of(given.get("rater", "")))
        if path == "/sheet.jpg":
            sheet = session.sheet(given.get("rater", ""), _whole_number(given.get("position", "")))
            return _Reply(sheet, "image/jpeg", keep_seconds=3600)
        raise _RefusedError(HTTPStatus.NOT_FOUND, "There is no such page.")

    def _post(self, path: str, _: dict[str, str], body: bytes) -> _Reply:
        if path != "/answer":
            raise _RefusedError(HTTPStatus.NOT_FOUND, "There is no such page.")
        if self.headers.get_content_type() != "application/json":
            raise _RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "An answer is sent as application/json.")
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            raise UserError("The answer is not JSON.") from None
        return _json(self.server.session.take(answer))

    def _send(self, reply: _Reply) -> None:
        if reply.status != HTTPStatus.OK:
            self.close_connection = True  # the rest of a request that is too long is not read
        self.send_response(reply.status)
        cache = f"private, max-age={reply.keep_seconds}" if reply.keep_seconds else "no-store"
        own = {"Content-Type": reply.kind, "Content-Length": str(len(reply.body)), "Cache-Control": cache}
        if self.close_connection:
            own["Connection"] = "close"
        for name, value in (own | HEADERS).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body)


def _json(value: object) -> _Reply:
    return _Reply(json.dumps(value).encode())


def _failure(status: HTTPStatus, error: Exception) -> _Reply:
    return _Reply(json.dumps({"error": str(error)}).encode(), status=status)


def _whole_number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 9):
        raise UserError("A position is a whole number from 0 on.")
    return int(text)
