import os
import socket
import sys
from pathlib import Path

import pytest

from saliency_gan.app import serve
from saliency_gan.config import AppConfig
from saliency_gan.errors import UserError


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())


def start(**settings: object) -> None:
    with serve.serving(AppConfig(browser=False, device="cpu", **settings)):  # type: ignore[arg-type]
        raise AssertionError("it started")


def test_a_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=rf"Port {port} cannot be used \(.+\): give another one with --port"):
            start(port=port)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"port": 70000}, "--port is 70000"),
        ({"port": 80}, "--port is 80"),
        ({"max_megabytes": 0}, "--max_megabytes is 0"),
        ({"port": 0, "weights": Path("no/model")}, "no/model"),
        ({"port": 0, "generator": "no-generator"}, "no-generator|run discover"),
    ],
)
def test_mistakes_are_found_before_gradio_is_loaded(settings: dict[str, object], named: str) -> None:
    with pytest.raises(UserError, match=named):
        start(**settings)


def test_a_missing_gradio_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "saliency_gan.app.page", raising=False)
    with pytest.raises(UserError, match=r"pip install 'saliency-gan\[app\]'"):
        start(port=0)


def test_ctrl_c_ends_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    opened: list[str] = []

    class Context:
        def __enter__(self) -> str:
            return "http://127.0.0.1:1/"

        def __exit__(self, *_: object) -> None:
            opened.append("closed")

    class Interrupted:
        def wait(self) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr(serve, "serving", lambda config: Context())
    monkeypatch.setattr(serve.threading, "Event", Interrupted)
    monkeypatch.setattr(serve.webbrowser, "open", opened.append)
    serve.serve_app(AppConfig(browser=False))
    serve.serve_app(AppConfig(browser=True))
    assert opened == ["closed", "http://127.0.0.1:1/", "closed"]
    assert "http://127.0.0.1:1/" in capsys.readouterr().out


def test_a_folder_that_is_called_dissect_is_not_taken_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dissect").mkdir()
    (tmp_path / "dissect" / "dissection.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "saliency_gan.app.page", raising=False)
    with pytest.raises(UserError, match="app needs the package gradio"):  # everything before it went well
        start(port=0, generator="eigengan-caltech101-64")
