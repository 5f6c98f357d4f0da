import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from saliency_gan.errors import StageError, UserError
from saliency_gan.saliency.model import SaliencyArchitecture, SaliencyModel, load_model
from tests.saliency.toys import TINY_ARCHITECTURE


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = SaliencyModel(TINY_ARCHITECTURE)
    model.about = {"trained_on": "toys"}
    return model.save(tmp_path_factory.mktemp("model"))


def copied(saved: Path, folder: Path) -> Path:
    for name in ("model.safetensors", "config.json"):
        (folder / name).write_bytes((saved.parent / name).read_bytes())
    return folder / "model.safetensors"


def test_images_are_normalised_by_imagenet_statistics() -> None:
    model = SaliencyModel(TINY_ARCHITECTURE)
    seen: list[torch.Tensor] = []

    class Eye(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images)
            return images[:, :1]

    model.network = Eye()
    unit = torch.rand(2, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    model((unit * 2 - 1).float())
    expected = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))(unit)
    torch.testing.assert_close(seen[0].double(), expected, atol=1e-5, rtol=0)


def test_two_outputs_give_the_softmax_probability_of_logits_over_ten() -> None:
    model = SaliencyModel(SaliencyArchitecture(decoder_channels=(16, 8, 8), outputs=2, resolution=32)).eval()
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        raw = model.network((images - model.mean) / model.std).double()
        probability = model(images).double().sigmoid()
    background, foreground = (raw / 10).exp().unbind(1)
    torch.testing.assert_close(probability[:, 0], foreground / (foreground + background), atol=1e-6, rtol=0)


def test_a_saved_model_marks_as_before(saved: Path) -> None:
    torch.manual_seed(0)
    before, after = SaliencyModel(TINY_ARCHITECTURE).eval(), load_model(saved)
    images = torch.rand(2, 3, 32, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(after(images), before(images), atol=5e-3, rtol=0)  # weights are in half precision
    assert after.about == {"trained_on": "toys"}
    assert len(after.sha256) == 64
    assert not any(parameter.requires_grad for parameter in after.parameters())
    assert torch.equal(load_model(saved.parent)(images), after(images))


def test_layers_that_are_never_used_are_not_kept() -> None:
    model = SaliencyModel(SaliencyArchitecture())
    assert not hasattr(model.network.encoder, "layer4")
    model(torch.zeros(2, 3, 64, 64)).mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"architecture": "Unett"}, "did you mean 'unet'"),
        ({"encoder": "resnet19"}, "has no encoder 'resnet19'"),
        ({"decoder_channels": (16,) * 9}, "cannot be built"),
        ({"resolution": 50}, "multiple of 32"),
        ({"outputs": 3}, "outputs is 3"),
    ],
)
def test_impossible_networks_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        SaliencyModel(SaliencyArchitecture(**settings))


def test_other_networks_of_the_library_work() -> None:
    model = SaliencyModel(SaliencyArchitecture("FPN", "mobilenet_v2", (), resolution=32)).eval()
    assert model(torch.zeros(1, 3, 64, 32)).shape == (1, 1, 64, 32)


def test_a_failed_download_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr("segmentation_models_pytorch.encoders.hf_hub_download", refuse)
    with pytest.raises(StageError, match=r"could not be downloaded \(no route to host\).*none"):
        SaliencyModel(TINY_ARCHITECTURE, "imagenet")


def test_bad_files_are_refused(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="predict --runtime onnx"):
        load_model(tmp_path / "saliency.onnx")
    with pytest.raises(UserError, match=r"There is no saliency model .*nowhere"):
        load_model(tmp_path / "nowhere.safetensors")
    weights = copied(saved, tmp_path)
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="damaged"):
        load_model(weights)
    torch.save({"weights": torch.zeros(3)}, weights)  # a pickle under the right name
    with pytest.raises(UserError, match="is not a saliency model"):
        load_model(weights)
    weights.write_bytes(whole)
    (tmp_path / "config.json").unlink()
    with pytest.raises(UserError, match=r"config\.json does not exist"):
        load_model(weights)


@pytest.mark.parametrize(
    "change", [{"format": "other/1"}, {"decoder_channels": [8, 8, 8]}, {"outputs": 2}, {"extra": 1}]
)
def test_a_config_of_another_model_is_refused(saved: Path, tmp_path: Path, change: dict) -> None:
    weights = copied(saved, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(UserError, match="is not a saliency model"):
        load_model(weights)


def test_a_config_that_is_no_mapping_is_refused(saved: Path, tmp_path: Path) -> None:
    weights = copied(saved, tmp_path)
    (tmp_path / "config.json").write_text("[1, 2]")
    with pytest.raises(UserError, match="is not a saliency model"):
        load_model(weights)


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    model = SaliencyModel(TINY_ARCHITECTURE)
    next(model.parameters()).data[0, 0, 0, 0] = np.nan
    with pytest.raises(UserError, match="finite"):
        load_model(model.save(tmp_path))


def test_without_bundled_weights_the_next_step_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("saliency_gan.saliency.model.bundled_folder", lambda: tmp_path)
    with pytest.raises(UserError, match="--weights PATH"):
        load_model()
