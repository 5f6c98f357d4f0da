"""A local server of files whose answers can be broken in the ways that downloads meet."""

import http.server
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Mirror:
    """What a server serves, and how badly.

    Attributes:
        files: Path -> content.
        drops: Path -> after how many bytes each of the next answers breaks off.
        versions: Path -> ETag; a path without one has no version at all.
        types: Path -> Content-Type, where it is not that of any file.
        ranges: Whether it can go on in the middle.
        tells_size: Whether the answer to a range beyond the end holds the size, as it should.
        requests: (path, Range header or None, bytes sent) of every request.
    """

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    drops: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    versions: dict[str, str] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    tells_size: bool = True
    requests: list[tuple[str, str | None, int]] = field(default_factory=list)

    def url(self, path: str) -> str:
        return f"{self.address}/{path}"


@contextmanager
def serving() -> Iterator[Mirror]:
    mirror = Mirror()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.lstrip("/").partition("?")[0]
            if path not in mirror.files:
                mirror.requests.append((path, self.headers["Range"], 0))
                return self.send_error(404)
            content, version, start = mirror.files[path], mirror.versions.get(path), 0
            asked = self.headers["Range"] if mirror.ranges else None
            if asked and self.headers["If-Range"] == version:
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                mirror.requests.append((path, asked, 0))
                self.send_response(416)
                if mirror.tells_size:
                    self.send_header("Content-Range", f"bytes */{len(content)}")
                return self.end_headers()
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.send_header("Content-Type", mirror.types.get(path, "application/octet-stream"))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            if version:
                self.send_header("ETag", version)
            self.end_headers()
            body = content[start:]
            if mirror.drops[path]:
                body = body[: mirror.drops[path].pop(0)]
            mirror.requests.append((path, self.headers["Range"], len(body)))
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    mirror.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield mirror
    finally:
        server.shutdown()
        server.server_close()
