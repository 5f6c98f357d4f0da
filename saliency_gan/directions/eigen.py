"""`eigen`: writes a page about the layers of an EigenGAN, with rows of images for every dimension."""

from dataclasses import fields
from math import hypot
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm import tqdm

from saliency_gan.compute.devices import make_fabric
from saliency_gan.config import EigenConfig
from saliency_gan.directions.drawing import draw, lay_out
from saliency_gan.directions.effects import EFFECTS, mean_and_spread, measure_effects, selectivities
from saliency_gan.errors import UserError
from saliency_gan.generators.eigengan import EigenGAN
from saliency_gan.generators.health import health_warnings, layer_health
from saliency_gan.generators.zoo import load_chosen
from saliency_gan.images.writing import write_image
from saliency_gan.pages.page import Section, Table, render
from saliency_gan.results.directions import load_directions
from saliency_gan.runs.random_streams import Stream, random_stream
from saliency_gan.runs.stage_folder import StageFolder
from saliency_gan.storage.files import write_json, write_text

if TYPE_CHECKING:
    from lightning_fabric import Fabric

TILE = 64


def eigen(config: EigenConfig) -> Path:
    """Measures and draws every dimension of every layer.

    Returns:
        The page, `run/eigen/eigen.html`; the same folder holds eigen.json and one picture per dimension.

    Raises:
        UserError: If the generator is not an EigenGAN, or a setting is out of range.
    """
    config.check()
    config, generator = config.resolved(), load_chosen(config.choice)
    if not isinstance(generator, EigenGAN):
        raise UserError(
            f"{generator.name} is no EigenGAN, so its layers name no directions: use discover, or give an EigenGAN with"
            " --generator."
        )
    with StageFolder(config, "eigen", changeable={field.name for field in fields(config)}) as folder:
        fabric = make_fabric(config.device, config.precision)
        generator.to(fabric.device)
        found = _measure(config, generator, fabric)
        _draw(config, generator, fabric, folder.path / "dimensions")
        write_json(folder.path / "eigen.json", found)
        page = folder.path / "eigen.html"
        write_text(page, _page(config, generator, found, folder.path))
    for warning in found["warnings"]:
        print(warning)
    print(f"{len(found['dimensions'])} dimensions of {generator.name} measured; see {page}")
    return page


def _measure(config: EigenConfig, generator: EigenGAN, fabric: "Fabric") -> dict[str, Any]:
    """Returns the content of eigen.json: importance, share and effects per dimension, orthogonality error per layer."""
    latents, classes = _subjects(config, generator, config.measured, number=0)
    names = _names_given(config, generator)
    shares = 100 * generator.importances / generator.importances.sum(dim=1, keepdim=True).clamp(min=1e-12)
    dimensions: dict[str, dict[str, Any]] = {}
    for name, direction in tqdm(generator.own_directions.items(), "measuring", unit="dimension"):
        minus, plus = (draw(generator, latents + sign * direction, classes, fabric).cpu() for sign in (-1, 1))
        effects = {kind: mean_and_spread(values) for kind, values in measure_effects(minus, plus, distance=2.0).items()}
        column = int(direction.argmax())
        layer, index = divmod(column - generator.noise_dim, generator.dims_per_layer)
        dimensions[name] = {
            "layer": layer + 1,
            "column": column,
            "called": names.get(name, ""),
            "importance": float(generator.importances[layer, index]),
            "share_percent": float(shares[layer, index]),
            "effects": {kind: {"mean": mean, "spread": spread} for kind, (mean, spread) in effects.items()},
        }
    sizes = {  # root mean squares: changes with different signs in different samples do not cancel out
        name: {kind: hypot(effect["mean"], effect["spread"]) for kind, effect in dimension["effects"].items()}
        for name, dimension in dimensions.items()
    }
    for name, (main, selectivity) in selectivities(sizes).items():
        dimensions[name] |= {"main_effect": main, "selectivity": selectivity}
    health = layer_health(generator, latents.to(fabric.device), classes.to(fabric.device))
    return {
        "generator": {"name": generator.name, "sha256": generator.sha256},
        "layers": [
            {"layer": layer, "side": 4 * 2 ** (layer - 1), "orthogonality_error": _orthogonality_error(basis)}
            for layer, basis in enumerate(generator.bases, start=1)
        ],
        "dimensions": dimensions,
        "warnings": health_warnings(health),
    }


def _orthogonality_error(basis: Tensor) -> float:
    """Largest entry of |U^T U - I|, in float64."""
    basis = basis.cpu().double()  # Apple's GPUs have no float64
    product = basis.T @ basis
    return float((product - torch.eye(len(product))).abs().max())


def _draw(config: EigenConfig, generator: EigenGAN, fabric: "Fabric", folder: Path) -> None:
    """Draws one sheet per dimension, with one row per sample. Along a row, only z_ij changes, from -reach to reach."""
    latents, classes = _subjects(config, generator, config.samples, number=1)
    values = torch.linspace(-config.reach, config.reach, config.frames)
    for name, direction in tqdm(generator.own_directions.items(), "drawing", unit="dimension"):
        everywhere = traversal(latents, int(direction.argmax()), values)
        images = draw(generator, everywhere.flatten(0, 1), classes.repeat(len(values)), fabric)
        sheet = lay_out(images.unflatten(0, (len(values), len(latents))), max(TILE, generator.resolution))
        write_image(folder / f"{name}.png", sheet)


def traversal(latents: Tensor, column: int, values: Tensor) -> Tensor:
    """Sets one column of the latents [N, latent_dim] to each of the values [M]; returns [M, N, latent_dim]."""
    everywhere = latents.expand(len(values), *latents.shape).clone()
    everywhere[:, :, column] = values[:, None]
    return everywhere


def _subjects(config: EigenConfig, generator: EigenGAN, count: int, number: int) -> tuple[Tensor, Tensor]:
    random = random_stream(config.seed, Stream.EIGEN, number)
    latents, classes = generator.sample(count, random, generator.class_indices(config.classes))
    return config.sigma * latents, classes


def _names_given(config: EigenConfig, generator: EigenGAN) -> dict[str, str]:
    """Names that a user gave to the dimensions with annotate, from the directions of the run or the bundled ones."""
    folder = config.found_directions.folder
    if not (folder / "directions.json").is_file():
        return {}
    directions = load_directions(folder)
    if directions.generator["sha256"] != generator.sha256:
        return {}  # they belong to another generator
    own = list(generator.own_directions)
    first = directions.matrix.shape[1] - len(own)
    given = {name: directions.names.get(first + number, name) for number, name in enumerate(own)}
    return {name: called.removeprefix(f"{name}: ") for name, called in given.items() if called != name}


def _page(config: EigenConfig, generator: EigenGAN, found: dict[str, Any], folder: Path) -> str:
    sections = [_overview(config, found)]
    for layer in found["layers"]:
        sections.append(section := Section(f"Layer {layer['layer']}, {layer['side']} px", f"layer{layer['layer']}"))
        own = {name: one for name, one in found["dimensions"].items() if one["layer"] == layer["layer"]}
        section.sentences.append(
            f"U^T U differs from the identity by at most {layer['orthogonality_error']:.1e}. A row is one sample; along"
            f" it the dimension goes from {-config.reach:g} to {config.reach:g}."
        )
        head = ["dimension", "name", "share", "changes most", "selectivity", *EFFECTS]
        rows = [
            [
                name,
                one["called"],
                f"{one['share_percent']:.0f} %",
                one["main_effect"],
                f"{one['selectivity']:.2f}",
                *(f"{effect['mean']:+.3f} ± {effect['spread']:.3f}" for effect in one["effects"].values()),
            ]
            for name, one in own.items()
        ]
        section.tables.append(Table("Share of the layer's |L|, and changes a unit of z", head, rows, words=(1, 3)))
        for name, one in own.items():
            called = f", {one['called']}" if one["called"] else ""
            caption = f"{name} ({one['share_percent']:.0f} %){called}: changes {one['main_effect']} most"
            section.show(folder / "dimensions" / f"{name}.png", caption)
    facts = [
        ("Generator", f"{generator.name} (sha256 {generator.sha256[:12]})"),
        ("Layers", f"{generator.num_layers} of {generator.dims_per_layer} dimensions, noise of {generator.noise_dim}"),
        ("Samples", f"sigma {config.sigma:g}, seed {config.seed}"),
    ]
    return render(f"{generator.name}: what its layers hold", facts, sections)


def _overview(config: EigenConfig, found: dict[str, Any]) -> Section:
    section = Section("What the layers hold", "overview")
    section.sentences += [
        "Layer i adds U_i diag(L_i) z_i + mu_i to its features; a dimension's share is |L_ij| in percent of its layer.",
        "Name a dimension with saliency-gan annotate --direction L1D1 --name NAME after discover; take one as"
        " background direction with saliency-gan discover --direction L1D1.",
        *found["warnings"],
    ]
    meanings = list(EFFECTS.items())
    section.tables.append(Table("What is measured", ("effect", "meaning"), meanings, words=(1,), folded=True))
    section.show_settings(config.run / "eigen")
    return section
