"""The real page: by HTTP as a program would use it, and in a headless browser as a person does."""

import base64
import contextlib
import http.server
import importlib.util
import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import pytest
import torch

from saliency_gan.app import guard, photo
from saliency_gan.app.editing import SIDE
from saliency_gan.app.serve import serving
from saliency_gan.config import AppConfig
from saliency_gan.generators.zoo import load_generator
from tests.directions.finished import finished_run
from tests.dissection.dissected import write_dissection
from tests.rating.browser import CHROMIUM, Browser

pytestmark = pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="the page needs gradio")

SAMPLE = Path(__file__).parents[2] / "data/samples/images/pet_Maine_Coon_201.jpg"
PICTURE = """(async () => {
  const image = document.querySelector('%s img');
  const bytes = new Uint8Array(await (await fetch(image.src)).arrayBuffer());
  return btoa(bytes.reduce((text, byte) => text + String.fromCharCode(byte), ''));
})()"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    run = finished_run(tmp_path_factory.mktemp("app"))
    generator = load_generator(str(run.parent / "tiny.safetensors"))
    units = [(number, "object" if number < 3 else "ground", 0.5) for number in range(6)]
    write_dissection(run / "dissect", generator, "block0", units)
    asked = mock.patch.object(guard, "_is_this_computer", side_effect=guard._is_this_computer)
    with mock.patch.dict(os.environ, {"GRADIO_SERVER_NAME": "0.0.0.0", "GRADIO_ALLOWED_PATHS": "/"}), asked as hosts:
        with serving(AppConfig(run=run, port=0, browser=False, device="cpu", max_megabytes=1)) as address:
            folder = Path(os.environ["GRADIO_TEMP_DIR"])
            assert {call.args[0] for call in hosts.call_args_list} == {"127.0.0.1"}, "it called somebody at its start"
            yield address
        assert not folder.exists(), "uploads outlive the server"


@pytest.fixture(scope="module")
def browser(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("the page is driven in Chromium, which is not installed")
    with Browser(tmp_path_factory.mktemp("profile"), 1280, 1000) as browser:
        browser.open(url)
        browser.wait("!!document.querySelector('#upload input[type=file]')")
        yield browser


def drop(browser: Browser, path: Path) -> None:
    """Gives the page a file."""
    # The page shows its drop zone only while there is no photo.
    browser.evaluate("document.querySelector('#upload [aria-label=\"Remove Image\"]')?.click()")
    browser.wait("!!document.querySelector('#upload input[type=file]')")
    root = browser.call("DOM.getDocument")["root"]["nodeId"]
    zone = browser.call("DOM.querySelector", nodeId=root, selector="#upload input[type=file]")["nodeId"]
    browser.call("DOM.setFileInputFiles", files=[str(path)], nodeId=zone)


def picture(browser: Browser, name: str) -> np.ndarray:
    """The pixels of a picture on the page."""
    data = base64.b64decode(browser.evaluate(PICTURE % f"#{name}"))
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED))


def source(browser: Browser, name: str) -> str:
    return browser.evaluate(f"document.querySelector('#{name} img')?.src ?? ''")


def changed(browser: Browser, name: str, before: str) -> None:
    """Waits until a picture is another one."""
    browser.wait(f"![{json.dumps(before)}, ''].includes(document.querySelector('#{name} img')?.src ?? '')")


def open_tab(browser: Browser, name: str) -> None:
    browser.evaluate(
        f"[...document.querySelectorAll('button[role=tab]')].find((tab) => tab.innerText.trim() == '{name}').click()"
    )


def paint(browser: Browser, name: str) -> None:
    """Draws a line over the middle of an editor with the mouse."""
    browser.wait(f"(document.querySelector('#{name} canvas')?.getBoundingClientRect().height ?? 0) > 100")
    for _ in range(3):  # the canvas loads its picture while frames are drawn, and without a screen they are on demand
        browser.call("Page.captureScreenshot", format="png")
    box = f"document.querySelector('#{name} canvas').getBoundingClientRect()"
    x, y = browser.evaluate(
        f"(() => {{ const box = {box}; return [box.x + box.width / 2, box.y + box.height / 2]; }})()"
    )
    mouse = {"button": "left", "clickCount": 1}
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=x - 40, y=y)
    browser.call("Input.dispatchMouseEvent", type="mousePressed", x=x - 40, y=y, **mouse)
    for step in (0, 40):
        browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=x + step, y=y, buttons=1, **mouse)
    browser.call("Input.dispatchMouseEvent", type="mouseReleased", x=x + 40, y=y, **mouse)


def set_slider(browser: Browser, name: str, value: float) -> None:
    browser.evaluate(
        f"(() => {{ const slider = document.querySelector('#{name} input[type=range]'); slider.value = {value};"
        " slider.dispatchEvent(new Event('input', {bubbles: true}));"
        " slider.dispatchEvent(new Event('pointerup', {bubbles: true})); })()"
    )


def test_a_person_cuts_out_a_photo(browser: Browser) -> None:
    from saliency_gan.saliency.model import load_model
    from saliency_gan.saliency.predictor import Predictor, TorchNetwork

    predictor = Predictor(load_model(), torch.device("cpu"), precision="auto")  # as the page computes
    expected = photo.mark(predictor, SAMPLE.read_bytes(), SAMPLE.name)
    runs = mock.patch.object(TorchNetwork, "maps", autospec=True, side_effect=TorchNetwork.maps)
    with runs as counted:
        drop(browser, SAMPLE)
        changed(browser, "cutout", "")
        browser.wait("document.querySelector('#about').innerText.includes('333 x 500')")
        drawn = photo.draw_pictures(expected, photo.Look(0.5, "guided"))
        np.testing.assert_array_equal(picture(browser, "map"), drawn.map)
        np.testing.assert_array_equal(picture(browser, "mask"), drawn.mask)
        np.testing.assert_array_equal(picture(browser, "cutout")[:, :, 3], drawn.cutout[:, :, 3])

        before = source(browser, "mask")
        set_slider(browser, "threshold", 0.25)
        changed(browser, "mask", before)
        browser.wait("document.querySelector('#about').innerText.includes('threshold 0.25')")
        lower = picture(browser, "mask")
        np.testing.assert_array_equal(lower, photo.draw_pictures(expected, photo.Look(0.25, "guided")).mask)
        assert (lower > 0).mean() > (drawn.mask > 0).mean()

        before = source(browser, "mask")
        browser.evaluate("document.querySelector('#refinement input[value=none]').click()")
        changed(browser, "mask", before)
        before = source(browser, "cutout")
        browser.evaluate("document.querySelector('#background input[value=white]').click()")
        changed(browser, "cutout", before)
        plain = photo.draw_pictures(expected, photo.Look(0.25, background="white"))
        np.testing.assert_array_equal(picture(browser, "mask"), plain.mask)
        np.testing.assert_array_equal(picture(browser, "cutout")[:, :, ::-1], plain.cutout)

        browser.evaluate("document.querySelector('#make').click()")
        browser.wait("document.querySelector('#files')?.innerText.includes('cutout')")
        assert counted.call_count == 1, "the photo and its mirror image together, once"


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("damaged.jpg", SAMPLE.read_bytes()[:3000], "damaged.jpg cannot be read as an image"),
        ("text.png", b"this is no picture", "text.png cannot be read as an image (no known format)."),
        ("large.png", bytes(1_100_000), "maximum allowed size"),
    ],
)
def test_what_is_no_photo_gives_a_sentence(
    browser: Browser, tmp_path: Path, name: str, data: bytes, sentence: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(data)
    drop(browser, tmp_path / name)
    browser.wait(f"document.body.innerText.toLowerCase().includes({json.dumps(sentence.lower())})")
    assert "Traceback" not in browser.evaluate("document.body.innerText") + "".join(capfd.readouterr())


def test_a_person_moves_along_directions(browser: Browser) -> None:
    open_tab(browser, "Directions")
    changed(browser, "moved", "")
    changed(browser, "start", "")
    changed(browser, "moved-masks", "")
    np.testing.assert_array_equal(picture(browser, "moved"), picture(browser, "start"))
    before, still = source(browser, "moved"), source(browser, "start")
    set_slider(browser, "shift", 6)
    changed(browser, "moved", before)
    assert source(browser, "start") == still
    assert not np.array_equal(picture(browser, "moved"), picture(browser, "start"))
    browser.evaluate("document.querySelector('#new').click()")
    changed(browser, "start", still)


@pytest.mark.slow  # the canvas is WebGL, which a computer without a GPU draws in software
def test_a_person_paints_a_region_and_switches_units_there(browser: Browser) -> None:
    open_tab(browser, "Dissection")
    changed(browser, "edited", "")
    before = source(browser, "edited")
    browser.evaluate("document.querySelector('#action input[value=insert]').click()")
    for _ in range(3):  # a stroke before the canvas has loaded its picture is lost
        paint(browser, "canvas")
        with contextlib.suppress(AssertionError):
            changed(browser, "edited", before)
            break
    assert source(browser, "edited") != before
    browser.wait("(document.querySelector('#edited img')?.naturalWidth ?? 0) > 0")
    inserted = picture(browser, "edited").astype(int)
    before = source(browser, "edited")
    browser.evaluate("document.querySelector('#action input[value=ablate]').click()")
    changed(browser, "edited", before)
    ablated = picture(browser, "edited").astype(int)
    assert inserted.shape == ablated.shape == (SIDE, SIDE, 3) and np.abs(inserted - ablated).max() > 3


def test_the_browser_loads_nothing_from_elsewhere(browser: Browser, url: str) -> None:
    loaded = browser.evaluate("performance.getEntriesByType('resource').map((one) => one.name)")
    assert len(loaded) > 20
    assert [address for address in loaded if not address.startswith((url, "blob:" + url, "data:"))] == []
    assert browser.evaluate("document.querySelectorAll('input[type=url], input[type=text]:not([role])').length") == 0


def ask(url: str, path: str, body: object = None, **headers: str) -> tuple[int, str]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, {"Content-Type": "application/json"} | headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.parametrize("path", ["http://example.org/cat.png", "http://127.0.0.1:{port}/cat.png", "/etc/hostname"])
def test_a_program_cannot_make_it_fetch_or_read_other_files(
    url: str, path: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from saliency_gan.app import page

    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    server.timeout = 0.1
    path = path.format(port=server.server_port)
    read = mock.Mock(side_effect=AssertionError("it was read"))
    monkeypatch.setattr(page, "mark", read)
    config = json.loads(ask(url, "config")[1])
    reading = next(one for one in config["dependencies"] if one["targets"] and one["targets"][0][1] == "upload")
    file = {"path": path, "url": None, "meta": {"_type": "gradio.FileData"}}
    body = {"data": [file], "fn_index": reading["id"], "session_hash": "program"}
    ask(url, "gradio_api/queue/join", body)
    events = ask(url, "gradio_api/queue/data?session_hash=program")[1]
    assert '"success":false' in events.replace(" ", "")
    assert not read.called
    server.handle_request()
    server.server_close()
    assert "cat.png" not in capfd.readouterr().err, "it was fetched"  # what that server would have logged
    assert ask(url, f"gradio_api/file={path}")[0] == 403


def test_it_answers_to_its_own_page_alone(url: str) -> None:
    assert ask(url, "")[0] == 200
    assert ask(url, "", Host="evil.example")[0] == 403
    assert ask(url, "gradio_api/queue/join", {}, Origin="http://evil.example")[0] == 403
    assert ask(url, "openapi.json")[0] == ask(url, "docs")[0] == 404


@pytest.mark.skipif(sys.platform != "linux", reason="it needs /proc")
def test_it_listens_on_this_computer_alone(url: str) -> None:
    port = int(url.rsplit(":", 1)[1].strip("/"))
    listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    at = [row[1] for row in listening if row[3] == "0A" and row[1].endswith(f":{port:04X}")]
    assert at == [f"0100007F:{port:04X}"]
