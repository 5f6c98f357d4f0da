"""Where a stage finds its inputs. One rule holds: the named input, else the run's, else the bundled one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from saliency_gan.errors import UserError
from saliency_gan.storage.bundled import bundled_folder, generators_with_directions
from saliency_gan.storage.files import is_address, read_json

BUNDLED = Path("bundled")
"""The name of the bundled saliency model on the command line."""
MODEL_STAGES = ("saliency-adapted", "student", "saliency")
"""Stages that write a saliency model, in reverse order of the pipeline."""
MODEL_FILE, GENERATOR_FILE = "model.safetensors", "generator.safetensors"


def is_custom(generator: str) -> bool:
    """Whether a generator's name is `PATH.py:FUNCTION`, or a PATH.py whose function was forgotten."""
    return generator.endswith(".py") or ".py:" in generator


@dataclass(frozen=True)
class Input:
    """One input of a stage.

    Attributes:
        name: Its name in messages: a path, an address, or the name of something bundled.
        origin: named, run or bundled; missing if the run should have it but does not.
        path: The file or folder on this machine; None if no file of the user is read.
        without: The run that was named but does not have the input, if a bundled input is used instead.
    """

    name: str
    origin: str
    path: Path | None = None
    without: Path | None = None

    def __str__(self) -> str:
        where = {"run": " (the run's)", "bundled": " (bundled)" * (self.name != "bundled")}.get(self.origin, "")
        return f"{self.name}{where}{f', since {self.without} has none' if self.without else ''}"

    @property
    def folder(self) -> Path:
        """`path` of an input that is always on this machine, such as directions."""
        assert self.path is not None
        return self.path

    @property
    def is_missing(self) -> bool:
        """Whether it should be on this machine but is not."""
        return self.origin == "missing" or (self.path is not None and not self.path.exists())


@dataclass(frozen=True)
class GeneratorChoice:
    """A generator with all its options.

    Attributes:
        name: Name in the zoo, path of a generator file or folder, or PATH.py:FUNCTION.
        weights: Its weights if they are not bundled; None for the cache.
        truncation: Scale of the latents, above 0, at most 1.
        ablate_units: Units that are switched off, `LAYER:U,U,U` for each layer.
        origin: named, run or bundled.
    """

    name: str
    weights: Path | None
    truncation: float
    ablate_units: tuple[str, ...]
    origin: str

    @property
    def inputs(self) -> dict[str, Input]:
        """The generator and, if they are another file, its weights."""
        code, is_code, _ = self.name.rpartition(".py:")
        is_path = Path(self.name).suffix or len(Path(self.name).parts) > 1 or Path(self.name).is_dir()
        path = Path(f"{code}.py") if is_code else Path(self.name) if is_path else None
        weights = {"weights": Input(str(self.weights), "named", self.weights)} if self.weights else {}
        is_bundled = not (path or weights) and (bundled_folder(self.name) / GENERATOR_FILE).is_file()
        return {"generator": Input(self.name, "bundled" if is_bundled else self.origin, path), **weights}


@dataclass(frozen=True)
class RunLayout:
    """The folders of a run, and what they hold for other stages.

    Attributes:
        run: The run folder, with a subfolder for each stage; None if no run was named, so that all inputs are bundled.
    """

    run: Path | None

    def generator(
        self,
        name: str | None = None,
        weights: Path | None = None,
        truncation: float | None = None,
        ablate_units: Sequence[str] = (),
        *,
        bundled: str,
        directions: Path | None = None,
    ) -> GeneratorChoice:
        """The named generator, else the one of the run's directions, else the one that the run trained, else `bundled`.

        If truncation or ablated units are not given, they are those of the directions. The same holds for the weights
        of a generator that is not named.

        Args:
            name: As for `load_generator`; None for the run's.
            weights: As for `load_generator`; None for the run's.
            truncation: As for `load_generator`; None for the run's, else 1.
            ablate_units: As for `load_generator`; empty for the run's.
            bundled: The generator of a run that has none.
            directions: Folder with directions.json; by default the run's discover folder.

        Raises:
            UserError: If no generator is named, and the directions do not say theirs, or theirs is code, which is only
                run when the user names it.
        """
        try:
            found = self._recorded(directions)
        except UserError:
            if name is None:
                raise
            found = None  # a named generator needs no directions, and discover writes them again
        if found is not None and name in (None, found.name):
            truncation = found.truncation if truncation is None else truncation
            ablate_units = ablate_units or found.ablate_units
        drawn = (1.0 if truncation is None else truncation, tuple(ablate_units))
        if name is not None:
            return GeneratorChoice(name, weights, *drawn, "named")
        if found is not None:
            chosen, origin, weights = found.name, "run", weights or found.weights
        elif self.run is not None and (self.run / "generator" / GENERATOR_FILE).is_file():
            chosen, origin = str(self.run / "generator"), "run"
        else:
            chosen, origin = bundled, "bundled"
        if is_custom(chosen):
            raise UserError(
                f"The directions in {directions or self._folder('discover')} belong to {chosen}, which is code, and"
                f" code is only run when a person names it: add --generator {chosen}"
                f"{f' --weights {weights}' if weights else ''}."
            )
        return GeneratorChoice(chosen, weights, *drawn, origin)

    def directions(self, named: Path | None, generator: str) -> Input:
        """Folder with directions.json: the named one, else the run's discover folder, else that of a bundled
        generator. A bundled generator's name also names its folder."""
        if named is not None and str(named) in generators_with_directions():
            return Input(str(named), "bundled", bundled_folder(str(named)))
        return self._find(named, "discover", "directions.json", generator)

    def dissection(self, named: Path | None, generator: str) -> Input:
        """Folder with dissection.json: the named one, else the run's dissect folder, else that of a bundled
        generator."""
        return self._find(named, "dissect", "dissection.json", generator)

    def pairs(self, named: str | Path | None) -> Input:
        """Folder with the manifest.json of pairs, or its web address; by default the run's masks folder."""
        if named is not None and is_address(named):
            return Input(str(named), "named")
        return self._find(Path(named) if named is not None else None, "masks", "manifest.json", "")

    def saliency_model(self, named: Path | None, stages: Sequence[str] = MODEL_STAGES) -> Input:
        """File or folder of a saliency model; `path` is None for the bundled one.

        Args:
            named: The model that the user named; `bundled` for the bundled one.
            stages: Stages whose model may be used; the first one that the run has is returned.
        """
        if named is not None and named != BUNDLED:
            return Input(str(named), "named", named)
        own = self.saliency_models(stages) if named is None else []
        without = self.run if named is None and stages else None
        return own[0] if own else Input("bundled", "bundled", without=without)

    def saliency_models(self, stages: Sequence[str] = MODEL_STAGES) -> list[Input]:
        """The run's own saliency models in the order of `stages`."""
        folders = [self._folder(stage) for stage in stages if self.run is not None]
        return [Input(str(folder), "run", folder) for folder in folders if (folder / MODEL_FILE).is_file()]

    @property
    def export(self) -> Path:
        """Default path of the export of the run's saliency model."""
        return (self.run or Path("runs")) / "export" / "saliency.onnx"

    def exported_model(self, named: Path | None) -> Input:
        """Export of a saliency model: the named one, else the run's if the run has a model, else that of the bundled
        model, whose `path` is None."""
        if named is not None or not self.saliency_models():
            return self.saliency_model(named)
        return Input(str(self.export), "run" if self.export.is_file() else "missing", self.export)

    def _find(self, named: Path | None, stage: str, file: str, generator: str) -> Input:
        if named is not None:
            return Input(str(named), "named", named)
        own, bundled = self._folder(stage), bundled_folder(generator)
        if self.run is not None and own.is_dir():
            return Input(str(own), "run", own)
        if generator and bundled.name == generator and (bundled / file).is_file():
            return Input(generator, "bundled", bundled, self.run)
        return Input(str(own), "missing", own)

    def _folder(self, stage: str) -> Path:
        return (self.run or Path()) / stage

    def _recorded(self, directions: Path | None) -> GeneratorChoice | None:
        """The generator of the directions; None if there are none.

        Raises:
            UserError: If their file does not say it, for example because it is damaged.
        """
        if directions is None and self.run is None:
            return None  # no run was named: a folder discover/ in the current one is nobody's
        path = self.directions(directions, "").folder / "directions.json"
        if not path.exists():
            return None
        try:
            found = read_json(path)
            used = found["config"]
            name, weights = str(used.get("generator", found["generator"]["name"])), used.get("weights")
            units = tuple(map(str, used.get("ablate_units", ())))
            return GeneratorChoice(
                name, Path(weights) if weights else None, float(used.get("truncation", 1)), units, "run"
            )
        except (UserError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError):
            raise UserError(
                f"{path} does not say which generator its directions belong to, perhaps because it is damaged: run"
                " discover again with --generator, or choose another folder with --run."
            ) from None
