"""`dissect`: the units of every layer with the concepts they agree with, and the causal effect of the best of them."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saliency_gan.compute.devices import make_fabric
from saliency_gan.config import DissectConfig
from saliency_gan.dissection.artifact_units import check_artifact_settings, measure_artifacts
from saliency_gan.dissection.concepts import ConceptSource
from saliency_gan.dissection.effects import measure_interventions
from saliency_gan.dissection.page import write_page, write_unit_pictures
from saliency_gan.dissection.painting import Painting
from saliency_gan.dissection.sampling import BATCH, Sampler
from saliency_gan.dissection.segmenters import concept_sources
from saliency_gan.dissection.units import MIN_QUALITY, AgreementCounts, JointCounts, threshold_candidates
from saliency_gan.errors import UserError
from saliency_gan.generators.base import Generator
from saliency_gan.generators.zoo import load_generator
from saliency_gan.runs.random_streams import random_stream
from saliency_gan.runs.stage_folder import StageFolder
from saliency_gan.saliency.model import load_model
from saliency_gan.storage.files import write_json

STREAM_BOOTSTRAP = 81
TOP_IMAGES = 5


def dissect(config: DissectConfig) -> Path:
    """Dissects a generator.

    Returns:
        The page, `run/dissect/dissect.html`, beside dissection.json and the pictures. dissection.json holds the
        generator's identity, the concepts, for every layer its units (unit, concept, iou, low, high, threshold,
        quality, off and on, its levels for the concept, top_images; concept None below `min_iou`), the painters that
        masks reads, what the interventions did, and the artifact units.

    Raises:
        UserError: If a setting is out of range, or the generator has no such layer, concept or class.
    """
    if (
        config.images < 2
        or config.units < 1
        or not 0 <= config.min_iou < 1
        or min(config.effect_images, config.mask_units) < 0
    ):
        raise UserError(
            f"--images {config.images} --units {config.units} --min_iou {config.min_iou:g} --effect_images"
            f" {config.effect_images} --mask_units {config.mask_units}: give at least 2 images, 1 unit, an IoU from 0"
            " to below 1 and no negative count."
        )
    check_artifact_settings(config)
    generator = load_generator(config.generator, config.weights, config.truncation, config.ablate_units)
    layers = _layers(config, generator)
    concepts = concept_sources(config.concepts, config.concept_weights, config.concept_names)
    for concept in (config.concept, config.mask_concept):
        if concept not in concepts.names:
            raise UserError(f"There is no concept {concept!r}: give one of {', '.join(concepts.names)}.")
    place = concepts.names.index(config.mask_concept)
    painting = Painting(config.mask_concept, place, config.mask_units, config.seed)
    with StageFolder(config, "dissect", changeable={field.name for field in fields(config)}) as folder:
        fabric = make_fabric(config.device, config.precision)
        generator.to(memory_format=torch.channels_last).to(fabric.device)  # type: ignore[call-overload]
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
        if config.effect_images:
            found["interventions"] = measure_interventions(config, sampler, concepts, dissected, folder.path)
        if config.artifact_images:
            found["artifacts"] = measure_artifacts(config, sampler, load_model(), folder.path)
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
        print(f"without its artifact units: --ablate_units {artifacts['layer']}:{units}")
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


@dataclass(frozen=True)
class DissectedLayer:
    """What was found out about a layer.

    Attributes:
        units: What dissection.json says of every unit.
        iou: IoU of every unit with every concept, float64 [units, concepts].
        quality: I / H of every unit with every concept, likewise.
        present: Mean activation of every unit where each concept is, likewise.
        absent: The same where it is not.
    """

    units: list[dict[str, Any]]
    iou: Tensor
    quality: Tensor
    present: Tensor
    absent: Tensor

    def levels(self, concept: int) -> tuple[Tensor, Tensor]:
        """What units are ablated to and inserted at, float [units] each.

        The paper's are 0 and k, the mean where the concept is. Features of residual blocks may be negative, and 0 in
        the middle of what a unit says; such a unit is off at its mean where the concept is not.
        """
        return self.absent[:, concept].clamp(max=0).float(), self.present[:, concept].float()


def dissect_layers(
    sampler: Sampler,
    concepts: ConceptSource,
    images: int,
    min_iou: float,
    seed: int,
    painting: Painting | None = None,
) -> dict[str, DissectedLayer]:
    """Chooses thresholds on some images and measures the IoU on as many others.

    Args:
        sampler: Draws images and features.
        concepts: What to look for.
        images: Images of each of the two halves.
        min_iou: A unit with at most this IoU has no concept.
        seed: Of the bootstrap samples.
        painting: Chooses its painters on the first half of the images, and is measured on the other one.

    Returns:
        Layer -> what was found.
    """
    look = sampler.draw(range(min(2 * BATCH, images)))
    candidates = {layer: threshold_candidates(features) for layer, features in look.features.items()}
    joint = {layer: JointCounts(some, len(concepts.names)) for layer, some in candidates.items()}
    sums = {
        layer: torch.zeros(len(some), len(concepts.names), dtype=torch.float64) for layer, some in candidates.items()
    }
    pixels = {layer: torch.zeros(len(concepts.names), dtype=torch.float64) for layer in candidates}
    whole = {layer: torch.zeros(len(some), dtype=torch.float64) for layer, some in candidates.items()}
    strongest: dict[str, list[Tensor]] = {layer: [] for layer in candidates}
    for seen in sampler.batches(0, images, "choosing thresholds"):
        where = concepts(seen.images)
        for layer, features in seen.features.items():
            joint[layer].add(features, where)
            small = torch.nn.functional.interpolate(where.float(), features.shape[-2:], mode="area")
            sums[layer] += torch.einsum("nuhw,nchw->uc", features, small).double().cpu()
            pixels[layer] += small.sum((0, 2, 3)).double().cpu()
            whole[layer] += features.sum((0, 2, 3)).double().cpu()
            strongest[layer].append(features.amax((2, 3)).cpu())
    best = {layer: counts.best_thresholds() for layer, counts in joint.items()}
    if painting:
        painting.choose(joint)
    agreements = {
        layer: AgreementCounts(candidates[layer], chosen, random_stream(seed, STREAM_BOOTSTRAP))
        for layer, (chosen, _) in best.items()
    }
    for seen in sampler.batches(images, images, "measuring the IoU"):
        where = concepts(seen.images)
        for layer, features in seen.features.items():
            agreements[layer].add(features, where)
        if painting:
            painting.add(seen.features, where)
    found = {}
    for layer, (chosen, quality) in best.items():
        result = agreements[layer].result()
        top = torch.cat(strongest[layer]).topk(min(TOP_IMAGES, images), dim=0).indices.T.tolist()
        places = images * look.features[layer][0, 0].numel()
        present = sums[layer] / pixels[layer].clamp(min=1e-6)
        absent = (whole[layer][:, None] - sums[layer]) / (places - pixels[layer]).clamp(min=1e-6)
        found[layer] = DissectedLayer([], result.iou, quality, present, absent)
        for unit, concept in enumerate(quality.argmax(1).tolist()):
            named = bool(result.iou[unit, concept] > min_iou and quality[unit, concept] > MIN_QUALITY)
            off, on = found[layer].levels(concept)
            found[layer].units.append(
                {
                    "unit": unit,
                    "concept": concepts.names[concept] if named else None,
                    "kind": concepts.kinds[concept] if named else None,
                    "iou": float(result.iou[unit, concept]),
                    "low": float(result.low[unit, concept]),
                    "high": float(result.high[unit, concept]),
                    "quality": float(quality[unit, concept]),
                    "threshold": float(candidates[layer][unit, chosen[unit, concept]]),
                    "off": float(off[unit]),
                    "on": float(on[unit]),
                    "top_images": top[unit],
                }
            )
    return found
