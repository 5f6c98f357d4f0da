"""Pipelines and JSON: 100 edited and 200 made-up YAML files, 12 by hand, 60 edited answers."""

from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saliency_gan.cli.arguments import parse
from saliency_gan.config import STAGES
from saliency_gan.errors import UserError
from saliency_gan.rating.answers import Answer, load_answers, save_answers
from tests.safety.fuzzing import broken, fuzzed, survives

PIPELINE = (Path(__file__).parents[2] / "pipelines" / "demo.yaml").read_bytes()
VALUES = st.recursive(
    st.one_of(
        st.just(""), st.booleans(), st.integers(), st.floats(), st.text(max_size=8).map(repr),
        st.sampled_from([".nan", ".inf", "9" * 5000, "!!python/object/apply:os.system ['touch owned']", "*a", "&a b"]),
    ),
    lambda inner: st.lists(inner, max_size=3).map(lambda parts: f"[{', '.join(map(str, parts))}]"),
    max_leaves=4,
)  # fmt: skip
KEYS = st.sampled_from(["discover", "run", "seed", "generator", "weights", "predict", "nonsense", "? [a]", "<<", "1"])
HOSTILE = {
    "a billion laughs": b"a: &a [x,x,x,x,x,x,x,x,x]\n"
    + b"".join(b"%c: &%c [%s]\n" % (98 + i, 98 + i, b",".join([b"*%c" % (97 + i)] * 9)) for i in range(9)),
    "code": b"run: !!python/object/apply:os.system ['touch owned']\n",
    "an import": b"run: !!python/module:antigravity\n",
    "itself": b"discover: &a {steps: *a}\n",
    "depth": b"run: " + b"[" * 20_000,
    "UTF-16": "run: runs/demo".encode("utf-16"),
    "Latin-1": "run: caf\xe9".encode("latin-1"),
    "a huge number": b"seed: " + b"9" * 10_000,
    "a code 0": b'run: "a\\0b"\n',
    "a list": b"- 1\n",
    "two documents": b"run: a\n---\nrun: b\n",
    "a large file": b"#" * 2**19,
}


SETTINGS = st.sampled_from([(verb, field.name) for verb, stage in STAGES.items() for field in fields(stage)])


def _read(path: Path, verb: str = "discover") -> None:
    config, _ = parse(verb, [*["photo.jpg"] * (verb == "predict"), "--config", str(path)])
    config.check()


@fuzzed(100)
@given(content=broken(PIPELINE))
def test_edited_pipelines(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "pipeline.yaml"
    path.write_bytes(content)
    survives(lambda: _read(path), tmp_path)


@fuzzed(100)
@given(st.lists(st.tuples(KEYS, VALUES), min_size=1, max_size=3))
def test_made_up_pipelines(tmp_path: Path, entries: list[tuple[str, object]]) -> None:
    path = tmp_path / "pipeline.yaml"
    path.write_text("".join(f"{key}: {value}\n" for key, value in entries), errors="replace")
    survives(lambda: _read(path), tmp_path)


@fuzzed(100)
@given(SETTINGS, VALUES)
def test_made_up_settings(tmp_path: Path, setting: tuple[str, str], value: object) -> None:
    verb, name = setting
    path = tmp_path / "pipeline.yaml"
    path.write_text(f"{verb}: {{{name}: {value}}}\n", errors="replace")
    survives(lambda: _read(path, verb), tmp_path)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pipelines_are_refused(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "pipeline.yaml"
    path.write_bytes(HOSTILE[name])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError):
        _read(path)
    survives(lambda: _read(path), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["pipeline.yaml"]


@fuzzed(60)
@given(st.data())
def test_edited_answers(tmp_path: Path, data: st.DataObject) -> None:
    save_answers(tmp_path, "ann", {"learned-1": Answer(True, False, "sky", "2026-01-01T00:00:00+00:00")})
    path = tmp_path / "ann.json"
    path.write_bytes(data.draw(broken(path.read_bytes())))
    survives(lambda: load_answers(tmp_path, "ann"), tmp_path)
