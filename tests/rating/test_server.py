import json
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path

import cv2
import numpy as np
import pytest

from saliency_gan.config import RateConfig
from saliency_gan.directions.annotation import rename
from saliency_gan.errors import StageError, UserError
from saliency_gan.rating import session
from saliency_gan.rating.server import RatingServer
from saliency_gan.rating.study import KINDS, Study
from saliency_gan.results.directions import load_directions
from tests.rating.client import Client

GOOD = {"rater": "ann", "position": 0, "consistent": True, "one_factor": True, "name": ""}


@pytest.fixture
def client(serve) -> Client:
    return Client(serve())


def saved(config: RateConfig, rater: str) -> dict[str, dict[str, object]]:
    """A rater's file, by direction."""
    content = json.loads((config.run / "rating" / "raters" / f"{rater}.json").read_text())
    assert content["rater"] == rater
    return {answer.pop("direction"): answer for answer in content["answers"]}


def position_of(config: RateConfig, rater: str, kind: str) -> tuple[int, int]:
    """Position and index of the rater's first direction of a kind."""
    return next((n, found.index) for n, found in enumerate(Study(config).order_of(rater)) if found.kind == kind)


def test_the_page_and_its_parts_are_served(client: Client) -> None:
    status, headers, page = client.send("GET", "/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert headers["Cache-Control"] == "no-store" and "default-src 'none'" in headers["Content-Security-Policy"]
    assert page.count(client.token.encode()) == 2 and b"{{" not in page
    assert client.send("GET", "/page.css")[1]["Content-Type"] == "text/css; charset=utf-8"
    assert client.send("GET", "/page.js")[1]["Content-Type"] == "text/javascript; charset=utf-8"
    study = {"directions": 8, "rows": 3, "shifts": [-8, -6, -4, -2, 0, 2, 4, 6, 8], "rater": None}
    assert client.get("/study") == study


def test_only_this_computer_is_served(serve) -> None:
    server = serve()
    assert server.server_address[0] == "127.0.0.1"
    assert server.url == f"http://127.0.0.1:{server.server_port}/?token={server.token}"
    assert len(server.token) >= 20 and server.token != serve().token


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "", "0.0.0.0:{port}"]
)
def test_other_hosts_are_refused(client: Client, host: str) -> None:
    status, _, body = client.send("GET", "/study", Host=host.format(port=client.port))
    assert status == 403 and b"its own page" in body


def test_both_names_of_this_computer_are_taken(client: Client) -> None:
    for host in ("127.0.0.1", "localhost"):
        address = f"{host}:{client.port}"
        assert client.send("GET", "/study", Host=address, Origin=f"http://{address}")[0] == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1:{port}", "http://127.0.0.1:1"])
def test_other_pages_cannot_answer(client: Client, config: RateConfig, origin: str) -> None:
    client.look("ann", 0)
    status, reply = client.post(json.dumps(GOOD).encode(), Origin=origin.format(port=client.port))
    assert status == 403 and "its own page" in reply["error"]
    assert not (config.run / "rating" / "raters").exists()


@pytest.mark.parametrize("token", ["", "x", "ü"])
@pytest.mark.parametrize("path", ["/", "/study", "/answers", "/sheet.jpg"])
def test_nothing_is_served_without_the_token(client: Client, token: str, path: str) -> None:
    client.token = token
    status, _, body = client.send("GET", path, {"rater": "ann", "position": 0})
    assert status == 403 and b"token" in body
    assert client.post(json.dumps(GOOD).encode())[0] == 403


@pytest.mark.parametrize(
    "path", ["/page.html", "/../server.py", "/raters/ann.json", "//etc/passwd", "/answer", "/%2e%2e/"]
)
def test_there_is_nothing_else(client: Client, path: str) -> None:
    assert client.send("GET", path)[0] == 404
    assert client.send("POST", path.replace("answer", "answers"), body=b"{}")[0] == 404


def test_an_answer_is_saved_at_once_and_can_be_changed(client: Client, config: RateConfig) -> None:
    order = Study(config).order_of("ann")
    client.look("ann", 0)
    assert client.answer("ann", 0, True, False) == (200, {"answered": 1})
    first = saved(config, "ann")[order[0].id]
    assert (first["consistent"], first["one_factor"], first["name"]) == (True, False, "")
    client.look("ann", 3)
    assert client.answer("ann", 3, True, True, " the  pose ") == (200, {"answered": 2})
    assert client.answer("Ann", 0, False, False) == (200, {"answered": 2}), "the same person in other letters"
    found = saved(config, "ann")
    assert list(found) == [order[0].id, order[3].id]
    assert (found[order[0].id]["consistent"], found[order[3].id]["name"]) == (False, "the pose")
    assert found[order[0].id]["time"] > first["time"]


def test_another_sitting_goes_on_where_the_first_ended(serve, config: RateConfig) -> None:
    first = Client(serve())
    for position in (0, 1, 4):
        first.look("ann", position)
        first.answer("ann", position, position > 0, position > 1, "size" if position == 4 else "")
    answers = Client(serve()).get("/answers", rater="ANN")
    given = {"consistent": True, "one_factor": False, "name": ""}
    assert answers["rater"] == "ann"
    assert answers["answers"] == [
        given | {"consistent": False}, given, None, None, given | {"one_factor": True, "name": "size"}, None, None,
        None,
    ]  # fmt: skip


def test_raters_do_not_see_each_other(client: Client, config: RateConfig) -> None:
    for rater, yes in (("ann", True), ("bob", False)):
        client.look(rater, 2)
        client.answer(rater, 2, yes, yes)
    orders = {rater: Study(config).order_of(rater) for rater in ("ann", "bob")}
    for rater, yes in (("ann", True), ("bob", False)):
        assert list(saved(config, rater)) == [orders[rater][2].id]
        assert client.get("/answers", rater=rater)["answers"][2]["consistent"] is yes
    assert client.get("/answers", rater="cid")["answers"] == [None] * 8
    assert client.look("ann", 2) != client.look("bob", 2)


def test_the_page_learns_nothing_about_where_a_direction_is_from(client: Client) -> None:
    replies = [client.send("GET", "/study"), client.send("GET", "/answers", {"rater": "ann"})]
    for position in range(8):
        replies.append(client.send("GET", "/sheet.jpg", {"rater": "ann", "position": position}))
        assert client.answer("ann", position, True, True, f"name {position}") == (200, {"answered": position + 1})
    replies += [client.send("GET", "/answers", {"rater": "ann"})]
    for _, headers, body in replies:
        for kind in KINDS:
            assert kind not in str(headers) and kind.encode() not in body
    page = b"".join(client.send("GET", path)[2] for path in ("/", "/page.js"))
    assert not any(kind.encode() in page for kind in KINDS)


def test_sheets_are_jpegs_that_the_browser_may_keep(client: Client) -> None:
    _, headers, body = client.send("GET", "/sheet.jpg", {"rater": "ann", "position": 7})
    assert headers["Cache-Control"] == "private, max-age=3600"
    assert cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR).shape == (52, 160, 3)


def test_what_nobody_looked_at_cannot_be_rated(client: Client, config: RateConfig) -> None:
    client.look("bob", 0)
    status, reply = client.answer("ann", 0, True, True)
    assert status == 400 and "looked at" in reply["error"]
    assert not (config.run / "rating" / "raters").exists()


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 4000, "not JSON"),
        (b"[]", "An answer holds"),
        (b"{}", "An answer holds"),
        (json.dumps(GOOD | {"kind": "learned"}).encode(), "An answer holds"),
        (json.dumps(GOOD | {"position": "0"}).encode(), "position has to be of type int"),
        (json.dumps(GOOD | {"position": True}).encode(), "position has to be of type int"),
        (json.dumps(GOOD | {"position": 0.0}).encode(), "position has to be of type int"),
        (json.dumps(GOOD | {"position": 8}).encode(), "0 to 7"),
        (json.dumps(GOOD | {"position": -1}).encode(), "0 to 7"),
        (json.dumps(GOOD | {"consistent": 1}).encode(), "consistent has to be of type bool"),
        (json.dumps(GOOD | {"one_factor": None}).encode(), "one_factor has to be of type bool"),
        (json.dumps(GOOD | {"rater": "../ann"}).encode(), "letters, digits"),
        (json.dumps(GOOD | {"rater": 3}).encode(), "rater has to be of type str"),
        (json.dumps(GOOD | {"name": "x" * 41}).encode(), "visible characters"),
        (json.dumps(GOOD | {"name": "17"}).encode(), "taken for an index"),
    ],
)
def test_bad_answers_are_refused_with_a_sentence(
    client: Client, config: RateConfig, body: bytes, sentence: str
) -> None:
    client.look("ann", 0)
    status, reply = client.post(body)
    assert status == 400 and sentence in reply["error"]
    assert not (config.run / "rating" / "raters").exists()
    assert client.post(json.dumps(GOOD).encode())[0] == 200, "the server goes on"


def test_answers_are_json(client: Client) -> None:
    client.look("ann", 0)
    assert client.post(json.dumps(GOOD).encode(), Content_Type="text/plain")[0] == 415
    assert client.post(json.dumps(GOOD).encode(), Content_Type="application/json; charset=utf-8")[0] == 200


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("Content-Length", "4097", 413),
        ("Content-Length", "9" * 400, 413),
        ("Content-Length", "-1", 411),
        ("Content-Length", "many", 411),
        ("Transfer-Encoding", "chunked", 411),
    ],
)
def test_the_length_of_an_answer_is_limited(client: Client, header: str, value: str, status: int) -> None:
    connection = HTTPConnection("127.0.0.1", client.port, timeout=30)
    connection.putrequest("POST", f"/answer?token={client.token}")
    connection.putheader("Content-Type", "application/json")
    connection.putheader(header, value)
    connection.endheaders()
    reply = connection.getresponse()
    assert (reply.status, reply.headers["Connection"]) == (status, "close")
    connection.close()


@pytest.mark.parametrize("path", ["/answers", "/sheet.jpg"])
@pytest.mark.parametrize("rater", ["../../discover/directions", "", "a/b", "..", "a\x00b"])
def test_names_of_raters_do_not_leave_the_folder(client: Client, path: str, rater: str) -> None:
    status, _, body = client.send("GET", path, {"rater": rater, "position": 0})
    assert status == 400 and b"letters, digits" in body


@pytest.mark.parametrize("position", ["8", "-1", "1e0", "", "x", "9" * 400, "²"])
def test_positions_that_do_not_exist(client: Client, position: str) -> None:
    status, _, body = client.send("GET", "/sheet.jpg", {"rater": "ann", "position": position})
    assert status == 400 and b"position" in body


def test_a_damaged_file_is_named_and_not_overwritten(client: Client, config: RateConfig) -> None:
    path = config.run / "rating" / "raters" / "ann.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    client.look("ann", 0)
    for status, reply in (client.answer("ann", 0, True, True), _failed(client, "/answers", rater="ann")):
        assert status == 400 and "ann.json" in reply["error"]
    assert path.read_text() == "{"


def _failed(client: Client, path: str, **values: object) -> tuple[int, dict[str, str]]:
    status, _, body = client.send("GET", path, values)
    return status, json.loads(body)


def test_names_of_learned_directions_reach_the_gallery_and_no_others(client: Client, config: RateConfig) -> None:
    folder = config.run / "discover"
    for kind in KINDS:
        position, _ = position_of(config, "ann", kind)
        client.look("ann", position)
        assert client.answer("ann", position, True, True, f"a {kind} pose") == (
            200,
            {"answered": 1 + KINDS.index(kind)},
        )
    position, index = position_of(config, "ann", "learned")
    assert load_directions(folder).names == {index: "a learned pose"}
    assert f"a learned pose (direction {index})" in (folder / "gallery" / "index.html").read_text()
    client.answer("ann", position, True, True, "size")
    assert load_directions(folder).names == {index: "size"}, "the one who gave the name may change it"
    client.answer("ann", position, True, False, "")
    assert load_directions(folder).names == {}


def test_a_name_that_somebody_gave_stays(client: Client, config: RateConfig) -> None:
    folder = config.run / "discover"
    position, index = position_of(config, "ann", "learned")
    other = (index + 1) % 6
    rename(folder, index, "background")
    rename(folder, other, "pose")
    client.look("ann", position)
    assert client.answer("ann", position, True, True, "size")[0] == 200
    assert load_directions(folder).names == {index: "background", other: "pose"}
    rename(folder, index, None)
    assert client.answer("ann", position, True, True, "pose")[0] == 200
    assert load_directions(folder).names == {other: "pose"}, "no name twice"
    assert saved(config, "ann")[f"learned-{index}"]["name"] == "pose", "the answer keeps what was said"


def test_a_change_takes_back_only_the_raters_own_name(client: Client, config: RateConfig) -> None:
    folder = config.run / "discover"
    position, index = position_of(config, "ann", "learned")
    rename(folder, index, "size")
    client.look("ann", position)
    for answers in ((True, True, "size"), (True, False, "")):
        assert client.answer("ann", position, *answers)[0] == 200
        assert load_directions(folder).names == {index: "size"}


def test_names_do_not_reach_directions_that_were_trained_further(client: Client, config: RateConfig) -> None:
    folder = config.run / "discover"
    position, _ = position_of(config, "ann", "learned")
    client.look("ann", position)
    before = load_directions(folder)
    replace(before, matrix=before.matrix.flip(1)).save(folder)
    assert client.answer("ann", position, True, True, "size")[0] == 200
    assert load_directions(folder).names == {}


def test_a_name_is_added_to_the_one_that_the_generator_gives(client: Client, config: RateConfig) -> None:
    folder = config.run / "discover"
    position, index = position_of(config, "ann", "learned")
    before = load_directions(folder)
    replace(before, config=before.config | {"K": 0}, names={index: "L1D1"}).save(folder)
    client.look("ann", position)
    for name, stored in (("smile", "L1D1: smile"), ("grin", "L1D1: grin"), ("", "L1D1")):
        assert client.answer("ann", position, True, True, name)[0] == 200
        assert load_directions(folder).names == {index: stored}


def test_a_taken_port_is_said(serve) -> None:
    server = serve()
    with pytest.raises(UserError, match=f"Port {server.server_port} cannot be used"):
        RatingServer(server.session, server.server_port)


def test_a_name_that_cannot_be_written_says_nothing_about_its_direction(
    client: Client, config: RateConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise StageError("no space left")

    monkeypatch.setattr(session, "rename", fail)
    replies = []
    for position in range(8):  # learned, random and coordinate ones
        client.look("ann", position)
        replies.append(client.post(json.dumps(GOOD | {"position": position, "name": f"name {position}"}).encode()))
    assert all(status == 200 for status, _ in replies)


def test_a_full_disk_is_said(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    client.look("ann", 0)
    monkeypatch.setattr(Path, "replace", full)
    status, reply = client.answer("ann", 0, True, True)
    assert status == 500 and "disk is full" in reply["error"]
