import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision
from torch import nn

from saliency_gan.errors import StageError, UserError
from saliency_gan.saliency.model import SaliencyModel, load_model
from saliency_gan.saliency.network import SaliencyArchitecture
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
        ({"encoder": "resnet19"}, "There is no encoder 'resnet19'"),
        ({"encoder": "ResNet18"}, "There is no encoder 'ResNet18' here: did you mean 'resnet18'"),
        ({"architecture": "PAN"}, "There is no architecture 'pan'"),
        ({"decoder_channels": (16,) * 9}, "cannot be built"),
        ({"resolution": 50}, "multiple of 32"),
        ({"outputs": 3}, "outputs is 3"),
        ({"output_stride": 3}, "output_stride is 3"),
        ({"output_stride": 2, "architecture": "FPN"}, "output_stride 2 needs --architecture Unet"),
        ({"output_stride": 4, "decoder_channels": ()}, "output_stride 4 needs .*--decoder_channels"),
        ({"output_stride": 2, "decoder_channels": (8,) * 5}, "cannot be built"),
        ({"output_stride": 4, "decoder_channels": (8,) * 4}, "cannot be built"),
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
    with pytest.raises(UserError, match=r"There is no config\.json beside"):
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
    monkeypatch.setattr("saliency_gan.saliency.model.bundled_folder", lambda name: tmp_path)
    with pytest.raises(UserError, match="--weights PATH"):
        load_model()


@pytest.mark.parametrize(("stride", "channels"), [(1, (16, 8, 8, 4)), (2, (16, 8, 8)), (4, (16, 8))])
def test_a_decoder_ends_at_the_output_stride(stride: int, channels: tuple[int, ...]) -> None:
    """What a hook sees of it, and the stretched map against another implementation of bilinear stretching."""
    model = SaliencyModel(SaliencyArchitecture(decoder_channels=channels, output_stride=stride)).eval()  # type: ignore[arg-type]
    seen: list[torch.Tensor] = []
    model.network.decoder.register_forward_hook(lambda *call: seen.append(call[2]))
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(2)) * 2 - 1
    with torch.no_grad():
        logits = model(images)
        small = model.network.segmentation_head[0](seen[0])
    assert seen[0].shape == (2, channels[-1], 64 // stride, 96 // stride)
    assert logits.shape == (2, 1, 64, 96)
    for one, map_ in zip(logits[:, 0], small[:, 0], strict=True):
        stretched = cv2.resize(map_.numpy(), (96, 64), interpolation=cv2.INTER_LINEAR)
        np.testing.assert_allclose(one.numpy(), stretched, atol=1e-5)


def test_all_output_strides_have_the_same_encoder() -> None:
    states = []
    for stride, channels in ((1, (8, 8, 8, 8)), (2, (8, 8, 8)), (4, (8, 8))):
        torch.manual_seed(5)
        sizes = SaliencyArchitecture(decoder_channels=channels, output_stride=stride)  # type: ignore[arg-type]
        states.append(SaliencyModel(sizes).network.encoder.state_dict())
    for state in states[1:]:
        assert all(torch.equal(state[name], states[0][name]) for name in states[0])


@pytest.mark.parametrize("encoder", ["resnet18", "tu-tf_efficientnet_lite0"])
def test_a_model_as_of_train_student_is_saved_and_read(tmp_path: Path, encoder: str) -> None:
    torch.manual_seed(0)
    sizes = SaliencyArchitecture("Unet", encoder, (8, 8, 4), resolution=32, output_stride=2, encoder_norms=False)
    before = SaliencyModel(sizes).eval()
    after = load_model(before.save(tmp_path))
    assert after.architecture == sizes
    images = torch.rand(2, 3, 32, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(after(images), before(images), atol=5e-3, rtol=0)  # weights are in half precision


@pytest.mark.parametrize("norms", [True, False])
@pytest.mark.parametrize(
    ("architecture", "encoder", "channels"),
    [
        ("Unet", "resnet18", (8, 8, 4)),  # the last stage is never used
        ("Unet", "densenet121", (8, 8, 4)),  # norms come before their convolutions, so not all can be folded
        ("Unet", "mit_b0", (8, 8, 8, 4, 4)),
        ("Unet", "mobileone_s0", (8, 8, 4)),
        ("FPN", "mobilenet_v2", ()),
    ],
)
def test_a_file_has_what_its_network_is_built_from(
    tmp_path: Path, architecture: str, encoder: str, channels: tuple[int, ...], norms: bool
) -> None:
    before = SaliencyModel(SaliencyArchitecture(architecture, encoder, channels, resolution=32, encoder_norms=norms))
    after = load_model(before.eval().save(tmp_path))
    assert [name for name, _ in after.named_modules()] == [name for name, _ in before.named_modules()]
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        expected = before(images)
        torch.testing.assert_close(after(images), expected, atol=0.01 * float(expected.std() + 0.1), rtol=0.01)


def test_a_file_without_a_stage_of_its_encoder_is_refused(saved: Path, tmp_path: Path) -> None:
    weights = copied(saved, tmp_path)
    tensors = safetensors.torch.load_file(weights)
    kept = {key: value for key, value in tensors.items() if ".encoder.layer1." not in key}
    safetensors.torch.save_file(kept, weights)
    with pytest.raises(UserError, match="not a saliency model"):
        load_model(weights)


def test_a_config_from_before_these_settings_is_still_read(saved: Path, tmp_path: Path) -> None:
    weights = copied(saved, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["output_stride"], config["encoder_norms"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert load_model(weights).architecture == TINY_ARCHITECTURE


def test_imagenet_weights_give_the_same_features_without_norms() -> None:
    encoder, images = "tu-tf_efficientnet_lite0", torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with_norms, without = (
        SaliencyModel(SaliencyArchitecture(encoder=encoder, encoder_norms=norms), "imagenet") for norms in (True, False)
    )
    assert without.about == with_norms.about and without.about["encoder_weights"]["package"]
    with torch.no_grad():
        maps, expected = (model.network.encoder.eval()(images * 2 - 1) for model in (without, with_norms))
    for one, other in zip(maps[1:], expected[1:], strict=True):
        assert other.std() > 0.1
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)
