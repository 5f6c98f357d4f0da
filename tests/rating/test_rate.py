import json
import threading
from dataclasses import replace
from http.server import ThreadingHTTPServer

import pytest

from saliency_gan.config import RateConfig
from saliency_gan.errors import UserError
from saliency_gan.rating.rate import rate
from saliency_gan.rating.server import RatingServer
from tests.rating.client import Client


def sitting(monkeypatch: pytest.MonkeyPatch, rater: str, positions: range) -> list[RatingServer]:
    """Makes the next servers be used by a person, who then presses Ctrl-C."""
    servers = []

    def serve(server: RatingServer) -> None:
        thread = threading.Thread(target=ThreadingHTTPServer.serve_forever, args=(server, 0.01))
        thread.start()
        client = Client(server)
        for position in positions:
            client.look(rater, position)
            assert client.answer(rater, position, True, True)[0] == 200
        server.shutdown()
        thread.join()
        servers.append(server)
        raise KeyboardInterrupt

    monkeypatch.setattr(RatingServer, "serve_forever", serve)
    return servers


def test_sittings_of_several_raters(
    config: RateConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    servers = sitting(monkeypatch, "ann", range(2))
    rate(config)
    output = capsys.readouterr().out
    assert servers[0].url in output and "Rate 8 directions" in output
    assert "2 answers saved just now; answered so far by ann: 2" in output
    sitting(monkeypatch, "bob", range(3))
    rate(replace(config, rater="Bob", port=0, learned=5))
    assert "3 answers saved just now; answered so far by ann: 2, bob: 3" in capsys.readouterr().out
    study = json.loads((config.run / "rating" / "study.json").read_text())
    assert study["columns"] == {"learned": 6, "random": 6, "coordinate": 6}
    assert sorted(path.name for path in (config.run / "rating" / "raters").iterdir()) == ["ann.json", "bob.json"]


def test_the_browser_is_opened_where_that_is_wanted(config: RateConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    callers: list[threading.Thread] = []

    def opening(url: str) -> None:
        opened.append(url)
        callers.append(threading.current_thread())

    monkeypatch.setattr("webbrowser.open", opening)
    servers = sitting(monkeypatch, "ann", range(0))
    rate(config)
    assert opened == []
    rate(replace(config, browser=True))
    assert opened == [servers[1].url]
    assert callers[0] is not threading.current_thread()  # which a browser of the terminal would keep from answering


@pytest.mark.parametrize("changed", [{"seed": 1}, {"samples": 4}])
def test_what_raters_see_stays_the_same(
    config: RateConfig, monkeypatch: pytest.MonkeyPatch, changed: dict[str, int]
) -> None:
    sitting(monkeypatch, "ann", range(1))
    rate(config)
    with pytest.raises(UserError, match="was begun with"):
        rate(replace(config, **changed))


def test_a_name_that_cannot_be_used_is_refused_before_anything_is_written(config: RateConfig) -> None:
    with pytest.raises(UserError, match="letters, digits"):
        rate(replace(config, rater="../ann"))
    assert not (config.run / "rating").exists()
