import collections
import hashlib
import io
import math
import pickle
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from saliency_gan.config import DiscoverConfig, MasksConfig
from saliency_gan.config.pipeline import load_pipeline
from saliency_gan.errors import UserError
from saliency_gan.generators.progan import CELEBAHQ_1024, PUBLIC_FILE, ProGANArchitecture, load_progan, public_shapes
from saliency_gan.generators.zoo import load_generator
from saliency_gan.runs.random_streams import random_stream

from .conftest import Payload

TINY = ProGANArchitecture(latent_dim=6, channels=(5, 4, 3))
"""16 px."""


def make_state(architecture):
    """Random tensors in the public file's format; `scale` keeps the features of every layer about as large."""
    random = random_stream(3)
    state = {name: torch.randn(shape, generator=random) for name, shape in public_shapes(architecture).items()}
    for name, tensor in state.items():
        if name.endswith("scale"):
            fan_in = math.prod(state[name.replace("wscale.scale", "conv.weight")].shape[1:])
            tensor.fill_((2 / fan_in) ** 0.5)
        if name.endswith(".b"):
            tensor.mul_(0.3)
    state["output.wscale.scale"] /= 2  # most pixels inside [-1, 1], some outside
    return state


@pytest.fixture(scope="module")
def state():
    return make_state(TINY)


@pytest.fixture
def saved(state, tmp_path):
    path = tmp_path / PUBLIC_FILE
    torch.save(state, path, _use_new_zipfile_serialization=False)  # as torch before 1.6 did
    return path


def pixel_norm(features):
    return features / np.sqrt((features**2).mean(axis=0) + 1e-8)


def convolve(features, kernel, padding):
    """[inputs, H, W] * [outputs, inputs, k, k] -> [outputs, H', W'], one output pixel after the other."""
    padded = np.pad(features, ((0, 0), (padding, padding), (padding, padding)))
    side = kernel.shape[-1]
    height, width = padded.shape[1] - side + 1, padded.shape[2] - side + 1
    result = np.empty((len(kernel), height, width))
    for row in range(height):
        for column in range(width):
            window = padded[:, row : row + side, column : column + side]
            result[:, row, column] = np.einsum("ichw,chw->i", kernel, window)
    return result


def layer_by_hand(features, state, index):
    """Layer `index` as the public code runs it: norm, upsample, convolve, scale, add the bias, leaky ReLU."""
    kernel, scale, bias = (
        state[f"features.{index}.{name}"].double().numpy() for name in ("conv.weight", "wscale.scale", "wscale.b")
    )
    features = pixel_norm(features)
    if index and index % 2 == 0:
        features = features.repeat(2, axis=1).repeat(2, axis=2)
    features = convolve(features, kernel, 3 if index == 0 else 1) * scale + bias[:, None, None]
    return np.where(features > 0, features, 0.2 * features)


def draw_by_hand(state, latent, layers):
    features = latent.double().numpy()[:, None, None]
    for index in range(layers):
        features = layer_by_hand(features, state, index)
    kernel, scale, bias = (
        state[f"output.{name}"].double().numpy() for name in ("conv.weight", "wscale.scale", "wscale.b")
    )
    return convolve(pixel_norm(features), kernel, 0) * scale + bias[:, None, None]


def test_images_equal_a_float64_recomputation(state, saved):
    generator = load_progan("tiny", saved, TINY).freeze()
    latents = generator.sample_latents(3, random_stream(0))
    images = generator(latents, torch.zeros(3, dtype=torch.int64))
    assert images.shape == (3, 3, 16, 16) and images.dtype == torch.float32
    unbounded = np.stack([draw_by_hand(state, latent, 6) for latent in latents])
    outside = (np.abs(unbounded) > 1).mean()
    assert 0.01 < outside < 0.5
    np.testing.assert_allclose(images.numpy(), unbounded.clip(-1, 1), rtol=0, atol=1e-5)


def test_weights_in_half_precision_are_computed_in_single_precision(state, tmp_path):
    torch.save({name: tensor.half() for name, tensor in state.items()}, tmp_path / "half.pth")
    generator = load_progan("tiny", tmp_path / "half.pth", TINY).freeze()
    images = generator(generator.sample_latents(2, random_stream(0)), torch.zeros(2, dtype=torch.int64))
    assert images.dtype == torch.float32 and images.isfinite().all()


def test_every_feature_layer_is_one_block_of_the_public_code(state, saved):
    generator = load_progan("tiny", saved, TINY).freeze()
    assert list(generator.feature_layers) == [f"layer{number}" for number in range(1, 7)]
    features = generator.sample_latents(1, random_stream(1))[:, :, None, None]
    for index, layer in enumerate(generator.feature_layers.values()):
        expected = layer_by_hand(features[0].double().numpy(), state, index)
        features = layer(features)
        np.testing.assert_allclose(features[0].numpy(), expected, rtol=0, atol=1e-5)
        assert features.shape[1:] == (TINY.channels[index // 2], *[4 * 2 ** (index // 2)] * 2)


def test_the_length_of_the_latent_does_not_matter(saved):
    generator = load_progan("tiny", saved, TINY).freeze()
    latents, classes = generator.sample_latents(2, random_stream(2)), torch.zeros(2, dtype=torch.int64)
    np.testing.assert_allclose(generator(3 * latents, classes), generator(latents, classes), rtol=0, atol=1e-5)


def test_automatic_mixed_precision_stays_near(saved):
    generator = load_progan("tiny", saved, TINY).freeze()
    latents, classes = generator.sample_latents(4, random_stream(3)), torch.zeros(4, dtype=torch.int64)
    with torch.autocast("cpu", torch.bfloat16):
        images = generator(latents, classes)
    assert images.dtype == torch.float32
    assert (images - generator(latents, classes)).abs().mean() < 0.02


def test_description_of_the_generator(saved):
    generator = load_progan("tiny", saved.parent, TINY)
    assert (generator.name, generator.latent_dim, generator.resolution, generator.channels) == ("tiny", 6, 16, 3)
    assert (generator.num_classes, generator.class_names) == (1, ("face",))
    assert generator.sha256 == hashlib.sha256(saved.read_bytes()).hexdigest()
    assert generator.sample_classes(5, random_stream(0)).tolist() == [0] * 5


def test_the_true_size_has_the_tensors_of_the_public_code():
    """Counted by hand from the constructor calls of the public model.py."""
    shapes = public_shapes(CELEBAHQ_1024)
    wide = 512 * 512 * 4 * 4 + 7 * 512 * 512 * 9
    narrowing = 9 * (512 * 256 + 256 * 256 + 256 * 128 + 128 * 128 + 128 * 64 + 64 * 64 + 64 * 32 + 32 * 32)
    last = 9 * (32 * 16 + 16 * 16) + 16 * 3
    biases, scales = 8 * 512 + 2 * (256 + 128 + 64 + 32 + 16) + 3, 18 + 1
    assert wide + narrowing + last + biases + scales == 23_071_526
    assert sum(math.prod(shape) for shape in shapes.values()) == 23_071_526
    assert len(shapes) == 57
    assert shapes["features.0.conv.weight"] == (512, 512, 4, 4)
    assert shapes["features.7.conv.weight"] == (512, 512, 3, 3)
    assert shapes["features.8.conv.weight"] == (256, 512, 3, 3)
    assert shapes["features.17.conv.weight"] == (16, 16, 3, 3)
    assert (shapes["features.17.wscale.scale"], shapes["features.17.wscale.b"]) == ((1,), (16,))
    assert (shapes["output.conv.weight"], shapes["output.wscale.b"]) == ((3, 16, 1, 1), (3,))
    assert CELEBAHQ_1024.resolution == 1024


def test_the_preset_has_the_published_settings():
    settings = load_pipeline(Path(__file__).parents[2] / "pipelines" / "progan-celebahq-1024.yaml")
    discover = DiscoverConfig(**settings["discover"])
    assert (discover.generator, discover.reconstructor) == ("progan-celebahq-1024", "resnet18")
    assert (discover.K, discover.batch, discover.steps) == (200, 10, 200_000)
    assert (discover.max_shift, discover.min_shift, discover.regression_weight) == (6, 0.5, 0.25)
    assert (discover.lr_deformator, discover.lr_reconstructor, discover.regression_loss) == (1e-4, 1e-4, "mae")
    MasksConfig(**settings["masks"]).check()


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("features.3.wscale.b", None, r"features\.3\.wscale\.b is missing"),
        ("features.6.conv.weight", torch.zeros(3, 3, 3, 3), r"features\.6\.conv\.weight is not one of its 21 tensors"),
        ("output.conv.weight", torch.zeros(3, 4, 1, 1), r"is \(3, 4, 1, 1\), not \(3, 3, 1, 1\)"),
        ("features.0.wscale.scale", 1.0, r"scale is float, not \(1,\)"),
    ],
)
def test_other_tensors_are_refused(state, tmp_path, name, value, reason):
    changed = {key: tensor for key, tensor in state.items() if key != name}
    torch.save(changed if value is None else {**changed, name: value}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=rf"other\.pth does not hold the weights of tiny \(.*{reason}\)"):
        load_progan("tiny", tmp_path / "other.pth", TINY)


def test_weights_of_another_size_are_refused_under_the_name_of_the_zoo(saved):
    with pytest.raises(
        UserError, match=r"weights of progan-celebahq-1024 \(features\.0\.conv\.weight is \(5, 6, 4, 4\)"
    ):
        load_generator("progan-celebahq-1024", saved)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=f"no file .*{PUBLIC_FILE}"):
        load_progan("tiny", tmp_path, TINY)


def test_a_pickle_is_refused_and_never_run(tmp_path):
    witness = tmp_path / "was-run"
    (tmp_path / "weights.pth").write_bytes(pickle.dumps({"features": Payload(witness)}))
    with pytest.raises(UserError, match="pickled objects besides tensors, which are never run"):
        load_progan("tiny", tmp_path / "weights.pth", TINY)
    assert not witness.exists()


def test_a_file_that_python_2_wrote_is_read(state, tmp_path):
    (tmp_path / "old.pth").write_bytes(python_2_file(state))
    generator = load_progan("tiny", tmp_path / "old.pth", TINY)
    expected = state["features.2.conv.weight"] * state["features.2.wscale.scale"]
    assert torch.equal(generator.layers[2].conv.weight, expected)
    assert torch.equal(generator.to_rgb.bias, state["output.wscale.b"])


def python_2_file(state):
    """The bytes of `torch.save(state, ...)` in torch 0.2 under Python 2, with which the public file was converted.

    Its text is in byte strings, its dictionary is a list of pairs, and its tensors are rebuilt by a function that later
    versions only keep for such files.
    """

    class Storage:
        def __init__(self, key, tensor):
            self.key, self.tensor = key, tensor

    class Rebuilt:
        def __init__(self, storage):
            self.storage = storage

        def __reduce__(self):
            tensor = self.storage.tensor
            return torch._utils._rebuild_tensor, (self.storage, 0, tuple(tensor.shape), tensor.stride())

    class Ordered:
        def __init__(self, pairs):
            self.pairs = pairs

        def __reduce__(self):
            return collections.OrderedDict, (self.pairs,)

    class Python2Pickler(pickle._Pickler):
        def save_byte_string(self, text):
            self.write(pickle.SHORT_BINSTRING + bytes([len(text)]) + text.encode())
            self.memoize(text)

        dispatch: ClassVar = {**pickle._Pickler.dispatch, str: save_byte_string}

        def persistent_id(self, value):
            if isinstance(value, Storage):
                return ("storage", torch.FloatStorage, value.key, "cpu", value.tensor.numel(), None)

    file = io.BytesIO()
    storages = {str(94_000_000 + index): tensor for index, tensor in enumerate(state.values())}
    pairs = [[name, Rebuilt(Storage(key, storages[key]))] for name, key in zip(state, storages, strict=True)]
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    for value in (0x1950A86A20F9469CFC6C, 1001, system, Ordered(pairs), sorted(storages)):
        Python2Pickler(file, protocol=2).dump(value)
    for key in sorted(storages):
        numbers = storages[key].numpy().ravel()
        file.write(np.int64(len(numbers)).tobytes() + numbers.tobytes())
    return file.getvalue()


@pytest.mark.slow
def test_progan_celebahq_1024_at_its_true_size(tmp_path):
    state = make_state(CELEBAHQ_1024)
    torch.save(state, tmp_path / PUBLIC_FILE, _use_new_zipfile_serialization=False)
    generator = load_generator("progan-celebahq-1024", tmp_path / PUBLIC_FILE)
    assert sum(parameter.numel() for parameter in generator.parameters()) == 23_071_526 - 19  # the scales are folded
    assert (generator.latent_dim, generator.resolution, len(generator.feature_layers)) == (512, 1024, 18)
    seen = {}
    for name in ("layer2", "layer3"):
        generator.feature_layers[name].register_forward_hook(
            lambda _, __, output, name=name: seen.update({name: output})
        )
    images = generator(generator.sample_latents(1, random_stream(0)), torch.zeros(1, dtype=torch.int64))
    assert images.shape == (1, 3, 1024, 1024)
    assert images.std() > 0.1 and images.abs().max() <= 1
    expected = layer_by_hand(seen["layer2"][0].double().numpy(), state, 2)
    np.testing.assert_allclose(seen["layer3"][0].numpy(), expected, rtol=0, atol=1e-4)
