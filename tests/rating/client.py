"""A browser's requests, one connection each."""

import json
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlencode

from saliency_gan.rating.server import RatingServer


class Client:
    """Talks to a server as the page does; `token` and headers can be others than the page's."""

    def __init__(self, server: RatingServer) -> None:
        self.port, self.token = server.server_port, server.token

    def send(
        self, method: str, path: str, values: dict[str, Any] | None = None, body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the reply."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        query = urlencode({"token": self.token, **(values or {})})
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, f"{path}?{query}", body, names)
        reply = connection.getresponse()
        found = reply.status, dict(reply.headers), reply.read()
        connection.close()
        return found

    def get(self, path: str, **values: Any) -> Any:
        """The JSON of a page that has to be there."""
        status, _, body = self.send("GET", path, values)
        assert status == 200, body
        return json.loads(body)

    def look(self, rater: str, position: int) -> bytes:
        """The sheet of a position."""
        status, headers, body = self.send("GET", "/sheet.jpg", {"rater": rater, "position": position})
        assert (status, headers["Content-Type"]) == (200, "image/jpeg"), body
        return body

    def post(self, body: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
        """Status and JSON of the reply to an answer."""
        headers.setdefault("Content_Type", "application/json")
        status, _, reply = self.send("POST", "/answer", body=body, **headers)
        return status, json.loads(reply)

    def answer(self, rater: str, position: int, consistent: bool, one_factor: bool, name: str = "") -> tuple[int, Any]:
        """Status and JSON of the reply to a well-formed answer."""
        given = {"rater": rater, "position": position, "consistent": consistent, "one_factor": one_factor, "name": name}
        return self.post(json.dumps(given).encode())
