"""`dissect`: which concepts the units of every layer agree with, and the causal effect of the best units."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from saliency_gan.compute.devices import make_fabric
from saliency_gan.config import DissectConfig
from saliency_gan.dissection.artifact_units import measure_artifacts
from saliency_gan.dissection.effects import measure_interventions
from saliency_gan.dissection.layers import dissect_layers
from saliency_gan.dissection.page import write_page, write_unit_pictures
from saliency_gan.dissection.painting import Painting
from saliency_gan.dissection.realism import require_fidelity
from saliency_gan.dissection.sampling import Sampler
from saliency_gan.dissection.segmenters import concept_sources
from saliency_gan.errors import UserError
from saliency_gan.generators.base import Generator
from saliency_gan.generators.zoo import load_chosen
from saliency_gan.runs.stage_folder import StageFolder
from saliency_gan.saliency.model import load_model
from saliency_gan.storage.files import write_json


def dissect(config: DissectConfig) -> Path:
    """Dissects a generator.

    Returns:
        The page, `run/dissect/dissect.html`. dissection.json and the pictures are in the same folder. dissection.json
        holds the generator's identity, the concepts, and for every layer its units (unit, concept, iou, low, high,
        threshold, quality, off and on, which are its levels for the concept, top_images; concept is None below
        `min_iou`). It also holds the painters that `masks` reads, the effects of the interventions, and the artifact
        units.

    Raises:
        UserError: If a setting is out of range, or the generator has no such layer, concept or class.
    """
    config.check()
    if config.fid_weights:
        require_fidelity()
    config, generator = config.resolved(), load_chosen(config.choice)
    model = load_model(config.inputs()["saliency model"].path)
    layers = _layers(config, generator)
    concepts = concept_sources(config.concepts, config.concept_weights, config.concept_names, model)
    for concept in (config.concept, config.mask_concept):
        if concept not in concepts.names:
            raise UserError(f"There is no concept {concept!r}: give one of {', '.join(concepts.names)}.")
    place = concepts.names.index(config.mask_concept)
    painting = Painting(config.mask_concept, place, config.mask_units, config.seed)
    with StageFolder(config, "dissect", changeable={field.name for field in fields(config)}) as folder:
        fabric = make_fabric(config.device, config.precision)
        generator.to(fabric.device)
        sampler = Sampler(generator, layers, fabric, config.seed, generator.class_indices(config.classes))
        dissected = dissect_layers(sampler, concepts, config.images, config.min_iou, config.seed, painting)
        found: dict[str, Any] = {
            "generator": {"name": generator.name, "sha256": generator.sha256},
            "concepts": [
                {"name": name, "kind": kind} for name, kind in zip(concepts.names, concepts.kinds, strict=True)
            ],
            "images": config.images,
            "layers": {name: layer.units for name, layer in dissected.items()},
            "painters": painting.to_plain(),
            "interventions": None,
            "artifacts": None,
        }
        write_json(folder.path / "dissection.json", found)  # what follows may need more memory than there is
        if config.effect_images:
            found["interventions"] = measure_interventions(config, sampler, concepts, dissected, folder.path)
        if config.artifact_images:
            found["artifacts"] = measure_artifacts(config, sampler, model, folder.path)
        write_unit_pictures(config, sampler, found, folder.path / "units")
        write_json(folder.path / "dissection.json", found)
        page = write_page(config, generator, found, folder.path)
    for name, layer in dissected.items():
        interpretable = sum(unit["concept"] is not None for unit in layer.units)
        print(f"{name}: {interpretable} of {len(layer.units)} units agree with a concept (IoU > {config.min_iou:g})")
    if painters := found["painters"]:
        print(
            f"{len(painters['units'])} units together find {painters['concept']}: IoU {painters['iou']:.3f}"
            f" ({painters['low']:.3f} to {painters['high']:.3f}); masks --rule units makes masks of them"
        )
    if (artifacts := found["artifacts"]) and artifacts["units"]:
        units = ",".join(map(str, artifacts["units"]))
        print(f"without its artifact units: --ablate-units {artifacts['layer']}:{units}")
    print(f"dissection written to {page}")
    return page


def _layers(config: DissectConfig, generator: Generator) -> list[str]:
    known = list(generator.feature_layers)
    asked = list(config.layers or known) + ([config.layer] if config.layer else [])
    if not known or not set(asked) <= set(known):
        raise UserError(
            f"{generator.name} has no layers {', '.join(sorted(set(asked) - set(known)))}: its layers are"
            f" {', '.join(known) or 'none'}."
        )
    return [name for name in known if name in asked]
