"""`app`: serves the page."""

import os
import socket
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from saliency_gan.app.editing import Editor
from saliency_gan.app.exploring import Explorer
from saliency_gan.app.guard import HOST, no_connections
from saliency_gan.compute.devices import pick_device
from saliency_gan.config import AppConfig
from saliency_gan.directions.discovered import open_discovered
from saliency_gan.errors import UserError
from saliency_gan.saliency.model import load_model
from saliency_gan.saliency.predictor import Predictor

SETTINGS = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_RUN_HISTORY": "False",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
"""Environment variables for gradio, which reads them when it is imported."""


def serve_app(config: AppConfig) -> None:
    """Serves the page on 127.0.0.1 until Ctrl-C.

    Raises:
        UserError: If gradio is missing, the port is taken, or a model, a generator or its directions cannot be used.
    """
    with serving(config) as url:
        print(f"The page is at {url}; Ctrl-C ends it and deletes what was uploaded.", flush=True)
        if config.browser:
            webbrowser.open(url)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


@contextmanager
def serving(config: AppConfig) -> Iterator[str]:
    """Serves the page in threads as long as the context lasts; yields its address.

    Uploads and results are in a temporary folder, which is removed at the end.
    """
    config.check()
    port = _free_port(config.port)
    predictor = Predictor(load_model(config.model.path), pick_device(config.device), precision="auto")
    found = open_discovered(config.choice, config.directions)
    dissection = None if config.dissection.origin == "missing" else config.dissection.folder
    explorer = Explorer(found, config.mask_settings, dissection)
    editor = Editor(dissection, explorer.generator, config.seed)
    with tempfile.TemporaryDirectory(prefix="saliency-gan-app-") as folder, no_connections():
        build = _import_page(Path(folder))
        page = build(predictor, explorer, editor, Path(folder), config.max_megabytes, port)
        try:
            yield page.local_url
        finally:
            page.close(verbose=False)


def _free_port(port: int) -> int:
    """Returns the port; for 0, any free one.

    Raises:
        UserError: If it cannot be used.
    """
    with socket.socket() as probe:
        # The server does the same: a port is free again as soon as its last server has ended.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise UserError(
                f"Port {port} cannot be used ({error.strerror}): give another one with --port, or 0 for any."
            ) from None
        return int(probe.getsockname()[1])


def _import_page(folder: Path) -> Callable[..., Any]:
    """Imports gradio, offline and with its files in `folder`, and returns the function that builds the page."""
    for variable in [name for name in os.environ if name.startswith("GRADIO_")]:
        del os.environ[variable]  # some of them would open the page to other computers
    os.environ.update(SETTINGS, GRADIO_TEMP_DIR=str(folder))
    # gradio sends its own server a request to check that it runs; this must not go through a proxy.
    for variable in ("no_proxy", "NO_PROXY"):
        os.environ[variable] = ",".join(filter(None, (os.environ.get(variable), HOST)))
    if "gradio" not in sys.modules:
        print("loading gradio", file=sys.stderr)
    try:
        from saliency_gan.app.page import launch
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "saliency_gan":
            raise
        raise UserError("app needs the package gradio: pip install 'saliency-gan[app]'.") from None
    return launch
