"""Against the equations of the public code, computed here from the public file's tensors, in float64."""

import collections
import hashlib
import pickle

import pytest
import torch
import torch.nn.functional as F

from saliency_gan.errors import UserError
from saliency_gan.generators.biggan import BigGANArchitecture
from saliency_gan.generators.biggan_128 import load_biggan_128
from saliency_gan.generators.zoo import load_generator
from saliency_gan.runs.random_streams import random_stream

from .conftest import Payload

TINY = BigGANArchitecture(32, 16, 5, 6, (32, 24, 16, 8), 16)
"""Like the 128 px network, with fewer blocks, channels and classes."""


def public_tensors(channels, piece, embedding, classes, attention_block):
    """Every tensor that the public code's Generator saves: name -> shape, as its constructor makes them."""
    shapes = {"shared.weight": (classes, embedding)}

    def normed(prefix, weight, bias=False):
        shapes[f"{prefix}.weight"] = weight
        if bias:
            shapes[f"{prefix}.bias"] = weight[:1]
        shapes[f"{prefix}.u0"], shapes[f"{prefix}.sv0"] = (1, weight[0]), (1,)

    normed("linear", (16 * channels[0], piece), bias=True)
    for index in range(len(channels) - 1):
        inputs, outputs = channels[index], channels[index + 1]
        block = f"blocks.{index}.0"
        normed(f"{block}.conv1", (outputs, inputs, 3, 3), bias=True)
        normed(f"{block}.conv2", (outputs, outputs, 3, 3), bias=True)
        normed(f"{block}.conv_sc", (outputs, inputs, 1, 1), bias=True)
        for name, width in (("bn1", inputs), ("bn2", outputs)):
            normed(f"{block}.{name}.gain", (width, embedding + piece))
            normed(f"{block}.{name}.bias", (width, embedding + piece))
            shapes[f"{block}.{name}.stored_mean"] = shapes[f"{block}.{name}.stored_var"] = (width,)
        if index == attention_block:
            normed(f"blocks.{index}.1.theta", (outputs // 8, outputs, 1, 1))
            normed(f"blocks.{index}.1.phi", (outputs // 8, outputs, 1, 1))
            normed(f"blocks.{index}.1.g", (outputs // 2, outputs, 1, 1))
            normed(f"blocks.{index}.1.o", (outputs, outputs // 2, 1, 1))
            shapes[f"blocks.{index}.1.gamma"] = ()
    for name in ("gain", "bias", "stored_mean", "stored_var"):
        shapes[f"output_layer.0.{name}"] = channels[-1:]
    normed("output_layer.2", (3, channels[-1], 3, 3), bias=True)
    return shapes


def make_state(shapes):
    """Random tensors in that format, with vectors u0 that are not singular vectors yet, as in the averaged weights."""
    random = random_stream(11)
    state = collections.OrderedDict()
    for name, shape in shapes.items():
        tensor = torch.randn(shape, generator=random)
        if name.endswith("_var"):
            tensor = tensor.abs() + 0.5
        elif name.endswith(("_mean", ".bias", "output_layer.0.gain")):
            tensor = 0.3 * tensor + name.endswith("gain")
        elif name.endswith("gamma"):
            tensor.fill_(0.8)
        elif "linear" in name or "output_layer.2" in name:
            tensor = 3 * tensor
        state[name] = tensor
    state._metadata = {"": {"version": 1}}  # a module's state dict carries it into the file
    return state


def spectrally_normed(state, prefix):
    weight = state[f"{prefix}.weight"].double()
    matrix = weight.reshape(len(weight), -1)
    right = state[f"{prefix}.u0"].double() @ matrix
    right = right / right.norm().clamp(min=1e-6)
    left = right @ matrix.T
    left = left / left.norm().clamp(min=1e-6)
    return weight / (right @ matrix.T @ left.T)


def convolve(state, prefix, features, padding):
    bias = state.get(f"{prefix}.bias")
    return F.conv2d(
        features, spectrally_normed(state, prefix), bias if bias is None else bias.double(), padding=padding
    )


def conditional_norm(state, prefix, features, condition):
    gain = 1 + condition @ spectrally_normed(state, f"{prefix}.gain").T
    bias = condition @ spectrally_normed(state, f"{prefix}.bias").T
    mean, variance = (state[f"{prefix}.stored_{name}"].double()[:, None, None] for name in ("mean", "var"))
    return (features - mean) / (variance + 1e-5).sqrt() * gain[:, :, None, None] + bias[:, :, None, None]


def double(features):
    return features.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


def block(state, prefix, features, condition):
    hidden = double(conditional_norm(state, f"{prefix}.bn1", features, condition).clamp(min=0))
    hidden = convolve(state, f"{prefix}.conv1", hidden, 1)
    hidden = conditional_norm(state, f"{prefix}.bn2", hidden, condition).clamp(min=0)
    return convolve(state, f"{prefix}.conv2", hidden, 1) + convolve(state, f"{prefix}.conv_sc", double(features), 0)


def attention(state, prefix, features):
    count, _, height, width = features.shape
    theta = convolve(state, f"{prefix}.theta", features, 0).reshape(count, -1, height * width)
    phi, g = (
        F.max_pool2d(convolve(state, f"{prefix}.{name}", features, 0), 2).reshape(count, -1, height * width // 4)
        for name in ("phi", "g")
    )
    scores = torch.einsum("ncq,nck->nqk", theta, phi).exp()
    mixed = torch.einsum("nqk,nck->ncq", scores / scores.sum(dim=2, keepdim=True), g).reshape(count, -1, height, width)
    return features + state[f"{prefix}.gamma"].double() * convolve(state, f"{prefix}.o", mixed, 0)


def draw(state, blocks, latents, classes):
    """The public code's forward pass in evaluation; also gives the features after every block."""
    pieces = latents.double().chunk(blocks + 1, dim=1)
    embedded = state["shared.weight"].double()[classes]
    features = pieces[0] @ spectrally_normed(state, "linear").T + state["linear.bias"].double()
    features, seen = features.reshape(len(latents), -1, 4, 4), []
    for index in range(blocks):
        features = block(state, f"blocks.{index}.0", features, torch.cat([embedded, pieces[index + 1]], dim=1))
        seen.append(features)
        if f"blocks.{index}.1.gamma" in state:
            features = attention(state, f"blocks.{index}.1", features)
    mean, variance, gain, bias = (
        state[f"output_layer.0.{name}"].double()[:, None, None]
        for name in ("stored_mean", "stored_var", "gain", "bias")
    )
    features = ((features - mean) / (variance + 1e-5).sqrt() * gain + bias).clamp(min=0)
    return convolve(state, "output_layer.2", features, 1).tanh(), seen


@pytest.fixture(scope="module")
def state():
    return make_state(public_tensors(TINY.channels, 4, 6, 5, attention_block=1))


@pytest.fixture
def saved(state, tmp_path):
    path = tmp_path / "G_ema.pth"
    torch.save(state, path, _use_new_zipfile_serialization=False)  # as torch before 1.6 did
    return path


def test_images_and_every_block_equal_the_public_code_s_equations(state, saved):
    generator = load_biggan_128("tiny", saved, TINY).freeze()
    seen = []
    for layer in generator.feature_layers.values():
        layer.register_forward_hook(lambda _module, _inputs, features: seen.append(features))
    latents, classes = generator.sample_latents(3, random_stream(0)), torch.tensor([4, 0, 2])
    images = generator(latents, classes)
    expected, expected_features = draw(state, 3, latents, classes)
    assert images.shape == (3, 3, 32, 32) and 0.1 < images.std() < 0.9
    for features, reference in zip(seen, expected_features, strict=True):
        torch.testing.assert_close(features.double(), reference, rtol=0, atol=1e-5 * reference.abs().max().item())
    torch.testing.assert_close(images.double(), expected, rtol=0, atol=1e-4)


def test_the_spectral_norm_is_the_estimate_of_one_step_not_the_exact_one(state, saved):
    generator = load_biggan_128("tiny", saved, TINY)
    for ours, theirs in ((generator.first, "linear"), (generator.blocks[2].conv1, "blocks.2.0.conv1")):
        torch.testing.assert_close(ours.weight.double(), spectrally_normed(state, theirs), rtol=1e-6, atol=0)
        exact = torch.linalg.matrix_norm(ours.weight.flatten(1).double(), ord=2)
        assert exact > 1.001  # the estimate is below the largest singular value, so some is left


def test_a_folder_holds_the_file_under_its_public_name(saved):
    generator = load_biggan_128("tiny", saved.parent, TINY)
    assert generator.sha256 == hashlib.sha256(saved.read_bytes()).hexdigest()
    assert (generator.name, generator.num_classes, generator.class_names) == ("tiny", 5, tuple("01234"))


@pytest.mark.parametrize(
    ("name", "tensor", "reason"),
    [
        ("blocks.0.0.bn1.gain.u0", None, r"blocks\.0\.0\.bn1\.gain\.u0 is missing"),
        ("optim.step", torch.zeros(1), r"optim\.step is not one of its \d+ tensors"),
        ("shared.weight", torch.zeros(5, 7), r"shared\.weight is \(5, 7\), not \(5, 6\)"),
        ("linear.bias", 3.0, r"linear\.bias is float, not \(512,\)"),
    ],
)
def test_anything_but_exactly_the_public_tensors_is_refused(state, tmp_path, name, tensor, reason):
    changed = {key: value for key, value in state.items() if key != name}
    torch.save(changed if tensor is None else {**changed, name: tensor}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=rf"other\.pth does not hold the weights of tiny \({reason}\): give the file"):
        load_biggan_128("tiny", tmp_path / "other.pth", TINY)


def test_a_pickle_is_refused_and_never_run(tmp_path):
    witness = tmp_path / "was-run"
    (tmp_path / "G_ema.pth").write_bytes(pickle.dumps({"shared.weight": Payload(witness)}))
    with pytest.raises(UserError, match=r"G_ema\.pth is damaged or holds pickled objects"):
        load_generator("biggan-128", tmp_path)
    assert not witness.exists()


def test_missing_weights_and_truncation_are_refused(tmp_path, saved):
    with pytest.raises(UserError, match=r"no file .*G_ema\.pth"):
        load_generator("biggan-128", tmp_path / "elsewhere" / "G_ema.pth")
    with pytest.raises(UserError, match=r"truncation 0\.5 was asked of biggan-128, but only biggan-deep-128"):
        load_generator("biggan-128", saved, truncation=0.5)
    with pytest.raises(UserError, match=r"weights of biggan-128 \(shared\.weight is \(5, 6\), not \(1000, 128\)"):
        load_generator("biggan-128", saved)


@pytest.mark.slow
def test_biggan_128_at_its_true_size(tmp_path):
    """ch 96, z of 6 pieces of 20, shared embedding of 128, 1000 classes, attention after the block that makes 64 px."""
    shapes = public_tensors((1536, 1536, 768, 384, 192, 96), 20, 128, 1000, attention_block=3)
    state = make_state(shapes)
    learned = [tensor for name, tensor in state.items() if not name.endswith(("u0", "sv0", "_mean", "_var"))]
    assert sum(tensor.numel() for tensor in learned) == 70_433_988
    torch.save(state, tmp_path / "G_ema.pth", _use_new_zipfile_serialization=False)
    generator = load_generator("biggan-128", tmp_path / "G_ema.pth")
    assert sum(parameter.numel() for parameter in generator.parameters()) == 70_433_988
    assert (generator.latent_dim, generator.num_classes, generator.resolution) == (120, 1000, 128)
    assert generator.class_indices(["golden retriever", "teapot"]) == [207, 849]
    seen = []
    for layer in generator.feature_layers.values():
        layer.register_forward_hook(lambda _module, _inputs, features: seen.append(features))
    latents, classes = generator.sample_latents(1, random_stream(0)), torch.tensor([207])
    images = generator(latents, classes)
    expected, expected_features = draw(state, 5, latents, classes)
    assert images.std() > 0.2
    for features, reference in zip(seen, expected_features, strict=True):
        torch.testing.assert_close(features.double(), reference, rtol=0, atol=1e-5 * reference.abs().max().item())
    torch.testing.assert_close(images.double(), expected, rtol=0, atol=1e-3)
