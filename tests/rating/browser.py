"""Headless Chromium driven by real key presses, over the pipe of its DevTools protocol."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
PATIENCE = 30
"""Seconds to wait for any reply or condition."""
KEYS = {" ": ("Space", 32), "Enter": ("Enter", 13), "Backspace": ("Backspace", 8), "Escape": ("Escape", 27)}


class Browser:
    """One tab. Use it as a context manager.

    Args:
        profile: Empty folder for the browser's files.
        width: Pixels of the window.
        height: Pixels of the window.
    """

    def __init__(self, profile: Path, width: int = 1280, height: int = 800) -> None:
        self._profile, self._size = profile, (width, height)
        self._number, self._received = 0, b""

    def __enter__(self) -> "Browser":
        commands, self._to = os.pipe()
        self._from, replies = os.pipe()
        # The browser reads from 3 and writes to 4, which may be taken here, so both ends move out of the way first.
        high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 50) for end in (commands, replies)]
        switches = (
            "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --remote-debugging-pipe"
        )
        self._process = subprocess.Popen(
            [CHROMIUM, *switches.split(), f"--user-data-dir={self._profile}", "about:blank"],
            close_fds=False, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            preexec_fn=lambda: (os.dup2(high[0], 3), os.dup2(high[1], 4)),
        )  # fmt: skip
        for end in (commands, replies, *high):
            os.close(end)
        self._session = None
        tab = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=tab, flatten=True)["sessionId"]
        width, height = self._size
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Sends a command and waits for its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (reply := self._receive()).get("id") != self._number:
            pass
        assert "error" not in reply, reply
        return reply["result"]

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._received:
            assert select.select([self._from], [], [], PATIENCE)[0], "the browser does not answer"
            self._received += os.read(self._from, 1 << 20)
        message, _, self._received = self._received.partition(b"\0")
        return json.loads(message)

    def open(self, url: str) -> None:
        """Goes to a page."""
        self.call("Page.navigate", url=url)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression on the page."""
        reply = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in reply, reply
        return reply["result"].get("value")

    def wait(self, condition: str) -> None:
        """Waits until a JavaScript expression is true."""
        end = time.monotonic() + PATIENCE
        while not self.evaluate(condition):
            assert time.monotonic() < end, f"never came true: {condition}; {self.evaluate('document.body.innerText')}"
            time.sleep(0.05)

    def press(self, *keys: str) -> None:
        """Presses and lets go of keys: characters, or the names in KEYS."""
        for key in keys:
            code, number = KEYS.get(key, (key, ord(key[0].upper())))
            text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
            common = {"key": key, "code": code, "windowsVirtualKeyCode": number}
            self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
            self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def screenshot(self, path: Path) -> None:
        """Writes what the window shows as PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
