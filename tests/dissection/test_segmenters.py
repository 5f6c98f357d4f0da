import pytest
import torch
import torch.nn.functional as F
from torchvision.models import get_model

from saliency_gan.dissection import segmenters
from saliency_gan.dissection.segmenters import concept_sources
from saliency_gan.errors import UserError
from saliency_gan.runs.random_streams import random_stream
from tests.payload import Payload

MODEL = "lraspp_mobilenet_v3_large"
OWN = """
import torch

class Thresholds(torch.nn.Module):
    class_names = ("darker", "brighter")

    def forward(self, images):
        bright = images.mean(1, keepdim=True)
        return torch.cat([-bright, bright], dim=1)

def model():
    return Thresholds()

def nothing():
    return 3

def flat():
    return torch.nn.Flatten()
"""


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    network = get_model(MODEL, weights=None, weights_backbone=None, num_classes=3).eval()
    path = tmp_path_factory.mktemp("weights") / "model.pth"
    torch.save(network.state_dict(), path)
    return network, path


def test_a_model_of_torchvision_sees_what_it_sees_by_itself(weights, tmp_path, monkeypatch):
    monkeypatch.setattr(segmenters, "SIDE", 64)
    network, path = weights
    (tmp_path / "names.txt").write_text("cat\ndog\n\nsky\n")
    source = concept_sources(["saliency", f"torchvision:{MODEL}"], path, tmp_path / "names.txt")
    assert source.names == source.graded == ("salient object", "background", "cat", "dog", "sky")
    images = torch.rand(2, 3, 64, 64, generator=random_stream(0)) * 2 - 1
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        scores = network(((images + 1) / 2 - mean[:, None, None]) / std[:, None, None])["out"]
    found = source(images)[:, 2:]
    assert (found.sum(1) == 1).all()
    assert torch.equal(found.float().argmax(1), scores.argmax(1))
    torch.testing.assert_close(source.share(images, 3), scores.softmax(1)[:, 1].mean((1, 2)))
    images.requires_grad_()
    source.share(images, 4).sum().backward()
    assert images.grad.abs().sum() > 0


def test_small_and_grey_images_are_enlarged(weights):
    _, path = weights
    source = concept_sources([f"torchvision:{MODEL}"], path)
    assert source.names == ("class 0", "class 1", "class 2")
    assert source(torch.zeros(1, 1, 32, 32)).shape == (1, 3, 32, 32)


def test_code_of_the_users_own(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    source = concept_sources(["appearance", f"{tmp_path}/own.py:model"])
    assert source.names[-2:] == ("darker", "brighter")
    images = F.interpolate(torch.tensor([[[[-0.5, 0.5]]]]), (4, 4)).expand(1, 3, 4, 4)
    assert torch.equal(source(images)[0, -1], images[0, 0] > 0)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (["saliency", "pictures"], "no source of concepts 'pictures'"),
        (["model.pt"], "TorchScript and exported programs hold code"),
        (["saliency", "saliency"], "same name: background, salient object"),
        (["torchvision:unet"], "no segmentation model 'unet': give one of deeplabv3"),
        ([f"torchvision:{MODEL}"], "nothing is downloaded: torchvision's own are at https://download.pytorch.org"),
        (["{folder}/own.py:nothing"], "returned a int, no torch module"),
        (["{folder}/own.py:flat"], r"made \(1, 12288\) of one image"),
        (["{folder}/own.py:model", "torchvision:x"], "at most one segmentation model"),
        ([], "at least one source"),
    ],
)
def test_what_is_no_source_is_refused(tmp_path, asked, sentence):
    (tmp_path / "own.py").write_text(OWN)
    with pytest.raises(UserError, match=sentence):
        concept_sources([name.format(folder=tmp_path) for name in asked])


def test_weights_and_names_have_to_fit(weights, tmp_path):
    _, path = weights
    (tmp_path / "names.txt").write_text("cat")
    with pytest.raises(UserError, match=r"has 3 classes, but .*names\.txt names 1"):
        concept_sources([f"torchvision:{MODEL}"], path, tmp_path / "names.txt")
    with pytest.raises(UserError, match="does not hold the weights of torchvision:deeplabv3_mobilenet_v3_large"):
        concept_sources(["torchvision:deeplabv3_mobilenet_v3_large"], path)
    (tmp_path / "names.txt").write_bytes(b"\xff\xfe\x00cat")
    with pytest.raises(UserError, match=r"names\.txt is no text file"):
        concept_sources([f"torchvision:{MODEL}"], path, tmp_path / "names.txt")
    with pytest.raises(UserError, match="names none"):
        concept_sources(["saliency"], path)


def test_no_pickled_code_is_executed(tmp_path):
    torch.save({"classifier.weight": Payload(tmp_path / "exploded")}, tmp_path / "bomb.pth")
    with pytest.raises(UserError, match="pickled objects"):
        concept_sources([f"torchvision:{MODEL}"], tmp_path / "bomb.pth")
    assert not (tmp_path / "exploded").exists()
