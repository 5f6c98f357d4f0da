from dataclasses import replace

import pytest

from saliency_gan.config import DiscoverConfig, MasksConfig, to_plain
from saliency_gan.config.classes import read_class_files
from saliency_gan.config.pipeline import load_pipeline
from saliency_gan.errors import UserError


@pytest.fixture
def listed(tmp_path):
    path = tmp_path / "dogs.txt"
    path.write_text("# dogs, and an oar\n\n  golden retriever \npaddle, oar\n10-20\n7\n", encoding="utf-8")
    return path


LINES = ("golden retriever", "paddle, oar", "10-20", "7")


@pytest.mark.parametrize("config", [DiscoverConfig, MasksConfig])
def test_a_file_is_replaced_by_its_lines_so_that_a_run_records_them(listed, config):
    settings = config(classes=("teapot", f"@{listed}", 3))
    assert settings.classes == ("teapot", *LINES, 3)
    assert to_plain(settings)["classes"] == ["teapot", *LINES, 3]


def test_names_from_a_file_are_not_read_as_files(tmp_path):
    (tmp_path / "names.txt").write_text("Aves/owl\n@home\nread me.txt\n", encoding="utf-8")
    settings = DiscoverConfig(classes=(f"@{tmp_path / 'names.txt'}",))
    assert replace(settings, K=3).classes == ("Aves/owl", "@home", "read me.txt")


def test_paths_need_no_sign(listed, monkeypatch):
    assert read_class_files((str(listed),)) == LINES
    monkeypatch.chdir(listed.parent)
    assert read_class_files(("dogs.txt",)) == LINES


def test_a_pipeline_may_name_one_file_without_a_list(listed, tmp_path):
    pipeline = tmp_path / "pipeline.yaml"
    pipeline.write_text(f'discover: {{classes: "@{listed}"}}\n')
    assert DiscoverConfig(**load_pipeline(pipeline)["discover"]).classes == LINES


def test_all_classes_and_an_empty_list_stay_what_they_are():
    assert read_class_files(None) is None
    assert read_class_files(()) == ()


def test_files_that_cannot_be_used_are_named(tmp_path):
    with pytest.raises(UserError, match=r"The file of classes .*gone cannot be read \(No such file or directory\)"):
        read_class_files((f"@{tmp_path / 'gone'}",))
    (tmp_path / "empty.txt").write_text("# nothing\n\n")
    with pytest.raises(UserError, match=r"empty\.txt is empty: give one name, index or range a line"):
        read_class_files((str(tmp_path / "empty.txt"),))
    (tmp_path / "picture.txt").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(UserError, match=r"picture\.txt cannot be read \(it is no text\)"):
        read_class_files((str(tmp_path / "picture.txt"),))
