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
from saliency_gan.app.exploring import Explorer, mask_settings
from saliency_gan.app.guard import HOST, no_connections
from saliency_gan.compute.devices import pick_device
from saliency_gan.config import AppConfig
from saliency_gan.config.stage import StageConfig
from saliency_gan.errors import UserError
from saliency_gan.generators.zoo import GENERATORS
from saliency_gan.saliency.model import load_model
from saliency_gan.saliency.predictor import Predictor
from saliency_gan.storage.bundled import bundled_directions

SETTINGS = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_RUN_HISTORY": "False",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
"""Of gradio, which reads them where it is imported."""


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
    _check(config)
    port = _free_port(config.port)
    predictor = Predictor(load_model(_model(config)), pick_device(config.device), precision="auto")
    explorer = _explorer(config)
    editor = Editor(config.run, explorer.generator, config.seed)
    with tempfile.TemporaryDirectory(prefix="saliency-gan-app-") as folder, no_connections():
        build = _import_page(Path(folder))
        page = build(predictor, explorer, editor, Path(folder), config.max_megabytes, port)
        try:
            yield page.local_url
        finally:
            page.close(verbose=False)


def _check(config: AppConfig) -> None:
    if config.max_megabytes < 1:
        raise UserError(f"--max-megabytes {config.max_megabytes} is out of range: it has to be 1 or more, say 20.")
    if not 0 <= config.port < 65536:
        raise UserError(f"--port {config.port} is no port: give 1024 to 65535, or 0 for any free one.")
    if config.run != StageConfig.run and not config.run.is_dir():
        raise UserError(f"There is no run folder {config.run}: name another one with --run, or leave it out.")


def _free_port(port: int) -> int:
    """The port, or any free one for 0.

    Raises:
        UserError: If it cannot be used.
    """
    with socket.socket() as probe:
        # As the server itself does: a port is free again as soon as its last server has ended.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise UserError(
                f"Port {port} cannot be used ({error.strerror}): give another one with --port, or 0 for any."
            ) from None
        return int(probe.getsockname()[1])


def _model(config: AppConfig) -> Path | None:
    """The model that was named, the run's adapted one, its student, its first one, or None for the bundled one."""
    own = (config.run / folder for folder in ("saliency-adapted", "student", "saliency"))
    return config.weights or next((path for path in own if (path / "model.safetensors").is_file()), None)


def _explorer(config: AppConfig) -> Explorer:
    name = config.generator
    if name is None and not (config.run / "discover").is_dir():
        name = next(filter(bundled_directions, GENERATORS))
    settings = mask_settings(config.run, seed=config.seed, device=config.device, ablate_units=config.ablate_units)
    return Explorer(config.run, name, settings)


def _import_page(folder: Path) -> Callable[..., Any]:
    """The function that builds the page, with gradio told to keep to itself and to `folder`."""
    for variable in [name for name in os.environ if name.startswith("GRADIO_")]:
        del os.environ[variable]  # some of them would open the page to others
    os.environ.update(SETTINGS, GRADIO_TEMP_DIR=str(folder))
    # gradio asks its own server whether it runs, which is no matter of a proxy.
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
