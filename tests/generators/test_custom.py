import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from saliency_gan.cli import main as cli
from saliency_gan.config import WalkConfig
from saliency_gan.errors import UserError
from saliency_gan.generators.custom import load_custom
from saliency_gan.generators.zoo import load_generator
from saliency_gan.results.directions import BackgroundDirection, Directions
from saliency_gan.runs.random_streams import random_stream

REPOSITORY = Path(__file__).parents[2]
DCGAN = f"{REPOSITORY / 'examples' / 'dcgan.py'}:load"

CODE = """
import torch
from torch import nn
from saliency_gan.generators.base import Generator


class Mine(Generator):
    latent_dim, num_classes, class_names, resolution = 6, 2, ["cat", "dog"], 8

    def __init__(self):
        super().__init__()
        self.linear, self.shaped = nn.Linear(6, 3 * 8 * 8), nn.Unflatten(1, (3, 8, 8))
        nn.init.orthogonal_(self.linear.weight, generator=torch.Generator().manual_seed(0))
        nn.init.zeros_(self.linear.bias)

    def forward(self, latents, classes):
        images = self.shaped(self.linear(latents))
        return torch.tanh(images + classes[:, None, None, None])

    @property
    def feature_layers(self):
        return {"shaped": self.shaped}


def load():
    return Mine()
"""


@pytest.fixture
def write(tmp_path):
    """Writes code into mine.py and returns `PATH:load`."""

    def write_code(code: str = CODE) -> str:
        (tmp_path / "mine.py").write_text(code)
        return f"{tmp_path / 'mine.py'}:load"

    return write_code


def reference_dcgan() -> nn.Sequential:
    """The generator of PyTorch's DCGAN tutorial with few channels, 32 px, and statistics as if it had been trained."""
    random = random_stream(4)
    network = nn.Sequential(
        nn.ConvTranspose2d(8, 12, 4, 1, 0, bias=False), nn.BatchNorm2d(12), nn.ReLU(True),
        nn.ConvTranspose2d(12, 10, 4, 2, 1, bias=False), nn.BatchNorm2d(10), nn.ReLU(True),
        nn.ConvTranspose2d(10, 6, 4, 2, 1, bias=False), nn.BatchNorm2d(6), nn.ReLU(True),
        nn.ConvTranspose2d(6, 3, 4, 2, 1, bias=False), nn.Tanh(),
    )  # fmt: skip
    for module in network:
        if isinstance(module, nn.ConvTranspose2d):
            module.weight.data.normal_(0, 0.3, generator=random)
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=random)
            module.running_var.uniform_(0.5, 1.5, generator=random)
    return network.eval()


@pytest.fixture
def dcgan_file(tmp_path):
    torch.save(
        {f"main.{name}": tensor for name, tensor in reference_dcgan().state_dict().items()}, tmp_path / "netG.pth"
    )
    return tmp_path / "netG.pth"


def test_the_example_draws_what_the_network_of_the_tutorial_draws(dcgan_file):
    generator = load_custom(DCGAN, dcgan_file)
    assert (generator.name, generator.latent_dim, generator.resolution, generator.channels) == ("dcgan", 8, 32, 3)
    assert (generator.num_classes, list(generator.feature_layers)) == (1, ["relu2", "relu5", "relu8"])
    latents = generator.sample_latents(3, random_stream(0))
    with torch.no_grad():
        expected = reference_dcgan()(latents[:, :, None, None])
    np.testing.assert_allclose(generator(latents, torch.zeros(3).long()), expected, rtol=0, atol=1e-6)


def test_the_code_in_the_documentation_runs(tmp_path):
    guide = (REPOSITORY / "docs" / "generators.md").read_text().partition("## Your own generator")[2]
    (tmp_path / "my_gan.py").write_text(guide.partition("```python\n")[2].partition("```")[0])
    (tmp_path / "my_project.py").write_text(
        "from torch import nn\n\n\nclass Network(nn.Sequential):\n    def __init__(self):\n        super().__init__()\n"
        "        self.shape = nn.Unflatten(1, (128, 1, 1))\n        self.layer1 = nn.ConvTranspose2d(128, 3, 64)\n"
    )
    weights = {"layer1.weight": torch.full((128, 3, 64, 64), 0.01), "layer1.bias": torch.zeros(3)}
    torch.save(weights, tmp_path / "weights.pth")
    generator = load_custom(f"{tmp_path / 'my_gan.py'}:load", tmp_path / "weights.pth")
    latents = generator.sample_latents(2, random_stream(0))
    expected = np.tanh(latents.double().sum(1).numpy() / 100)[:, None, None, None] * np.ones((1, 3, 64, 64))
    np.testing.assert_allclose(generator(latents, torch.zeros(2).long()), expected, rtol=0, atol=1e-5)


def test_discover_and_masks_run_on_the_example_and_refuse_it_once_it_is_changed(dcgan_file, tmp_path, capsys):
    words = [f"--generator={DCGAN}", f"--weights={dcgan_file}", f"--run={tmp_path / 'run'}", "--device=cpu"]
    discover = ["discover", *words, "--K=3", "--batch=2", "--reconstructor=lenet", "--rca_samples=4"]
    discover += ["--background_samples=2", "--background_shifts=6", "--gallery_samples=0"]
    masks = ["masks", *words, "--batch=3", "--opening=0", "--fill_holes=false", "--min_area=0", "--max_area=1"]
    masks += ["--min_component=0", "--max_border=1"]
    assert cli.main([*discover, "--steps=2"]) == 0
    assert cli.main([*masks, "--pairs=4"]) == 0
    manifest = json.loads((tmp_path / "run" / "masks" / "manifest.json").read_text())
    assert (manifest["pairs"], manifest["resolution"]) == (4, 32)
    assert manifest["generator"] == {"name": "dcgan", "sha256": load_custom(DCGAN, dcgan_file).sha256}

    state = torch.load(dcgan_file, weights_only=True)
    torch.save(state | {"main.0.weight": state["main.0.weight"] + 1e-3}, dcgan_file)
    capsys.readouterr()
    assert cli.main([*masks, "--pairs=5"]) == 2
    assert "The directions belong to generator dcgan" in capsys.readouterr().err
    assert cli.main([*discover, "--steps=3"]) == 2
    assert "was begun on other weights than those of dcgan" in capsys.readouterr().err


def test_a_run_of_somebody_else_never_starts_code_by_itself(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = write("open('was-run', 'w')\n" + CODE)
    owner = {"name": "mine", "sha256": "0" * 64}
    background, config = BackgroundDirection(0, 1, 6.0, "bright"), {"generator": name, "weights": "w.pth"}
    Directions(torch.eye(6), torch.eye(6)[0], background, owner, config=config).save(tmp_path / "run" / "discover")
    with pytest.raises(UserError, match=r"which is code, .* add --generator .*mine\.py:load --weights w\.pth\."):
        WalkConfig(run=tmp_path / "run").inputs()
    assert not Path("was-run").exists()


def test_a_changed_file_is_another_generator(write):
    sha256 = load_custom(write()).sha256
    assert len(sha256) == 64
    assert load_custom(write()).sha256 == sha256
    assert load_custom(write(CODE + "# a remark\n")).sha256 != sha256
    assert load_custom(write(CODE.replace("manual_seed(0)", "manual_seed(1)"))).sha256 != sha256


def test_what_runs_is_what_the_file_says_now(write, tmp_path, monkeypatch):
    """Python's own import takes an older bytecode where the file's size and second of change are the same."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    for resolution in (8, 4):
        code = CODE.replace("3 * 8 * 8", f"3 * {resolution}**2").replace("3, 8, 8", f"3, {resolution}, {resolution}")
        name = write(code.replace('"dog"], 8', f'"dog"], {resolution}'))
        os.utime(tmp_path / "mine.py", (1, 1))
        assert load_custom(name).resolution == resolution
    assert not (tmp_path / "__pycache__").exists()


def test_the_same_weights_are_counted_whatever_file_they_came_from(dcgan_file, tmp_path):
    sha256 = load_custom(DCGAN, dcgan_file).sha256
    state = torch.load(dcgan_file, weights_only=True)
    torch.save(state, tmp_path / "copy.pth", _use_new_zipfile_serialization=False)
    assert load_custom(DCGAN, tmp_path / "copy.pth").sha256 == sha256
    torch.save(state | {"main.1.num_batches_tracked": torch.tensor(7)}, tmp_path / "copy.pth")
    assert load_custom(DCGAN, tmp_path / "copy.pth").sha256 != sha256


def test_a_generator_comes_ready_for_the_stages(write):
    generator = load_custom(write())
    assert (generator.name, generator.class_names, generator.channels) == ("mine", ("cat", "dog"), 3)
    assert not generator.training and not any(parameter.requires_grad for parameter in generator.parameters())
    assert (
        load_custom(write(CODE.replace("class Mine(Generator):", "class Mine(Generator):\n    name = 'x'"))).name == "x"
    )


def test_the_zoo_knows_the_form(write):
    name = write()
    assert load_generator(name).sha256 == load_custom(name).sha256
    with pytest.raises(UserError, match=r"mine\.py names no function: give .*mine\.py:FUNCTION, see 'Your own"):
        load_generator(name.removesuffix(":load"))
    with pytest.raises(UserError, match=r"gone\.py cannot be read \(No such file or directory\): give PATH\.py:FUNC"):
        load_generator("gone.py:load")
    with pytest.raises(UserError, match=r"truncation 0\.5"):
        load_generator(name, truncation=0.5)


def test_the_plan_names_the_file_and_the_weights(write, dcgan_file, capsys):
    for verb in ("discover", "masks"):
        assert cli.main([verb, f"--generator={DCGAN}", f"--weights={dcgan_file}", "--dry-run"]) == 0
        reads = capsys.readouterr().out.partition("reads:\n")[2]
        assert reads.startswith(f"  generator: {DCGAN}\n  weights: {dcgan_file}\n")
    assert cli.main(["discover", "--generator=gone.py:load", "--dry-run"]) == 0
    assert "reads:\n  generator: gone.py:load  (missing)\n" in capsys.readouterr().out


def test_modules_beside_the_file_can_be_imported(write, tmp_path):
    (tmp_path / "beside_mine.py").write_text("SIDE = 8\n")
    before = list(sys.path)
    assert load_custom(write("from beside_mine import SIDE\n" + CODE.replace("], 8", "], SIDE"))).resolution == 8
    assert sys.path == before


def test_classes_that_need_to_find_their_module(write):
    header = "from __future__ import annotations\nfrom dataclasses import dataclass\n"
    sizes = "\n@dataclass(frozen=True)\nclass Sizes:\n    side: int = 8\n"
    assert load_custom(
        write(header + CODE.replace("\n\nclass", sizes + "\n\nclass").replace("], 8", "], Sizes().side"))
    )


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("return Mine()", "return nn.Linear(6, 2)",
         r"returned a Linear, no saliency_gan\.generators\.base\.Generator \(it lacks latent_dim, num_classes, "
         r"class_names, resolution, feature_layers\): wrap it in a subclass, see 'Your own generator' in docs/gen"),
        ("return Mine()", "pass", r"returned a NoneType, no saliency_gan"),
        ("latent_dim,", "latent,", "latent_dim is None, not a whole number above 0"),
        ("], 8", "], '8'", "resolution is '8', not a whole number"),
        ("= 6, 2,", "= 6, 0,", "num_classes is 0, not a whole number above 0"),
        ("= 6, 2,", "= 6, True,", "num_classes is True, not a whole number"),
        ("= 6, 2,", "= 6, 3,", "2 class_names stand beside 3 classes"),
        ('["cat", "dog"]', '"ab"', "class_names is 'ab', not a tuple of text"),
        ('["cat", "dog"]', "[1, 2]", r"class_names is \[1, 2\], not a tuple of text"),
        ("    def forward", "    channels = 4\n\n    def forward", "channels is 4, not 1 or 3"),
        ('{"shaped": self.shaped}', "[self.shaped]", "feature_layers is not a dictionary of names and modules"),
        ('{"shaped": self.shaped}', '{"shaped": nn.ReLU()}', "modules of the generator"),
        ("self.shaped(self.linear(latents))", "self.linear(latents).reshape(-1, 3, 8, 8)",
         "layer 'shaped' gave nothing, because it is not called"),
        ('"shaped": self.shaped', '"flat": self.linear', r"'flat' gave float32 \(2, 192\), not a tensor \(2, units, h"),
        ("(self.linear(latents))", "(self.linear(latents)).relu_()", "feature layer 'shaped' is changed in place"),
        ("return Mine()", "mine = Mine()\n    mine.name = 5\n    return mine", "name is 5, not text"),
        ("], 8", "], 16", r"forward returned float32 \(2, 3, 8, 8\), not float32 \(2, 3, 16, 16\)"),
        ("return torch.tanh", "return torch.Tensor.tolist", "forward returned a list, not float32"),
        ("[:, None, None, None])", "[:, None, None, None]).double()", r"forward returned float64 \(2, 3, 8, 8\), not"),
        ("return torch.tanh", "return 9 + torch.tanh", r"images reach from 8\.\d+ to (9\.\d+|10), not at most from"),
        ("return torch.tanh(", "return torch.log(-images**2) + (", "images reach from nan to nan"),
        ("self.linear(latents)", "self.linear(latents).detach()", "forward cuts the gradient between z and the images"),
        ("images + classes", "images + torch.rand(1) + classes", "same z and c gave two different images"),
        ("self, latents, classes", "self, latents", r"failed \(TypeError: .*forward\(\) takes 2 positional arguments"),
        ("feature_layers", "layers", r"failed at line 26 \(TypeError: Can't instantiate abstract class Mine"),
        ("self.linear(latents)", "self.linear(latents[:, 1:])", r"failed at line 17 \(RuntimeError: .*mat1 and mat2"),
        ("return Mine()", "return Mine(", r"failed at line 26 \(SyntaxError"),
        ("return Mine()", "raise SystemExit(0)", r"failed at line 26 \(SystemExit: 0\)"),
        ("import torch\n", "import nothing_of_that_name\n", r"failed at line 2 \(ModuleNotFoundError: No module"),
        ("def load", "def build", r"mine\.py has no function 'load': give one of build, see"),
        ("def load(", "def load(weights", r"load takes weights: give --weights PATH\."),
    ],
)  # fmt: skip
def test_what_breaks_the_contract_is_named(write, before, after, message):
    assert before in CODE
    with pytest.raises(UserError, match=message):
        load_custom(write(CODE.replace(before, after, 1)))


@pytest.mark.parametrize(
    "vector",
    ["torch.ones(5)", "torch.zeros(6)", "torch.full((6,), torch.nan)", "[1.0] * 6", "torch.ones(6, dtype=int)"],
)
def test_own_directions_that_no_stage_could_use_are_named(write, vector):
    own = f"    own_directions = {{'up': {vector}}}\n\n    def forward"
    with pytest.raises(UserError, match="own_directions has 'up', which is no finite float tensor of 6 numbers"):
        load_custom(write(CODE.replace("    def forward", own, 1)))


def test_weights_of_five_dimensions_are_accepted(write):
    modulated = "nn.init.zeros_(self.linear.bias)\n        self.modulated = nn.Parameter(torch.zeros(1, 2, 2, 3, 3))"
    generator = load_custom(write(CODE.replace("nn.init.zeros_(self.linear.bias)", modulated, 1)))
    assert generator.modulated.shape == (1, 2, 2, 3, 3)


def test_images_that_seem_to_lie_in_0_to_1_are_remarked_upon(write, capsys):
    load_custom(write())
    assert capsys.readouterr().out == ""
    load_custom(write(CODE.replace("torch.tanh", "torch.sigmoid")))
    assert re.search(
        r"mine\.py:load: two images reach from 0\.\d+ to 0\.\d+; black is -1, so scale images in \[0, 1\] by 2 x - 1",
        capsys.readouterr().out,
    )


def test_latents_of_another_length_are_named(write):
    drawn = "    def sample_latents(self, count, random):\n        return torch.randn(count, 5)\n\n    def forward"
    with pytest.raises(UserError, match=r"sample_latents drew float32 \(2, 5\), not float32 \(2, 6\)"):
        load_custom(write(CODE.replace("    def forward", drawn)))


def test_latents_that_ignore_the_random_stream_are_named(write):
    drawn = "    def sample_latents(self, count, random):\n        return torch.randn(count, 6)\n\n    def forward"
    with pytest.raises(UserError, match="sample_latents draws other z from the same random stream"):
        load_custom(write(CODE.replace("    def forward", drawn)))


def test_weights_are_refused_where_the_function_takes_none(write, dcgan_file):
    with pytest.raises(UserError, match=r"load takes no weights, but --weights .*netG\.pth was given: leave them out"):
        load_custom(write(), dcgan_file)


def test_a_state_dict_that_does_not_fit_the_example_is_refused(tmp_path):
    torch.save({"conv.weight": torch.zeros(3, 3, 4, 4)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"dcgan\.py:load failed at line \d+ \(RuntimeError: .*main\.0\.weight"):
        load_custom(DCGAN, tmp_path / "other.pth")
