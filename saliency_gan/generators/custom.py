"""Loads a user's own generator, `PATH.py:FUNCTION`: runs the user's code and checks what it returns."""

import hashlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from saliency_gan.errors import UserError, reason_of
from saliency_gan.generators.base import Generator
from saliency_gan.runs.random_streams import Stream, random_stream

GUIDE = "see 'Your own generator' in docs/generators.md"


def load_custom(name: str, weights: Path | None = None) -> Generator:
    """Runs the file, calls its function and checks what it returns.

    Meanwhile the file can import from its own folder, as when Python runs the file. The generator's `sha256` covers the
    file's bytes and every tensor of its state dict, but not the code that the file imports.

    Args:
        name: `PATH.py:FUNCTION`.
        weights: Passed to the function as its only argument; None calls it without one.

    Raises:
        UserError: If there is no such file or function, if it fails, or if what it returns does not implement
            `base.Generator` correctly; the message says where.
    """
    with running(name, weights) as (generator, source):
        check_contract(generator, name)
        generator.sha256 = _identity(source, generator)
    return generator


@contextmanager
def running(name: str, weights: Path | None = None) -> Iterator[tuple[Any, bytes]]:
    """Runs the file and calls its function. Errors of the user's code, also in the `with` block, become a UserError.

    Args:
        name: `PATH.py:FUNCTION`.
        weights: As for `load_custom`.

    Yields:
        What the function returned, and the bytes of the file.

    Raises:
        UserError: If there is no such file or function, or if it fails.
    """
    path_text, _, function_name = name.rpartition(":")
    if not path_text.endswith(".py") or not function_name:
        raise UserError(f"{name} names no function: give {name.partition('.py')[0]}.py:FUNCTION, {GUIDE}.")
    path = Path(path_text)
    try:
        source = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): give PATH.py:FUNCTION, {GUIDE}.") from None
    with _importing_beside(path), _naming_failures(name, path):
        function = _function(_run(path, source), function_name)
        yield function(*_arguments(function, weights, name)), source


def check_contract(generator: Any, name: str) -> None:
    """Checks that a generator implements `base.Generator`, and sets it up: on the CPU, frozen, channels last, named.

    Args:
        generator: What the user's function returned.
        name: `PATH.py:FUNCTION`, for error messages, and to name a generator that has no name.

    Raises:
        UserError: If it is not a Generator, or does not implement it correctly. The message names the first problem.
    """
    if not isinstance(generator, Generator):
        required = ("latent_dim", "num_classes", "class_names", "resolution", "forward", "feature_layers")
        lacking = [part for part in required if not hasattr(generator, part)]
        raise UserError(
            f"{name} returned a {type(generator).__name__}, no saliency_gan.generators.base.Generator"
            f"{' (it lacks ' + ', '.join(lacking) + ')' if lacking else ''}: wrap it in a subclass, {GUIDE}."
        )
    _check_attributes(generator, name)
    generator.freeze().cpu()
    _check_images(generator, name)


def _check_attributes(generator: Generator, name: str) -> None:
    if not getattr(generator, "name", ""):
        generator.name = Path(name.rpartition(":")[0]).stem
    _require(isinstance(generator.name, str), name, f"name is {generator.name!r}, not text")
    for attribute in ("latent_dim", "num_classes", "resolution", "channels"):
        value = getattr(generator, attribute, None)
        _require(type(value) is int and value > 0, name, f"{attribute} is {value!r}, not a whole number above 0")
    _require(generator.channels in (1, 3), name, f"channels is {generator.channels}, not 1 or 3")
    names = getattr(generator, "class_names", None)
    are_names = isinstance(names, tuple | list) and all(isinstance(one, str) for one in names)
    _require(are_names, name, f"class_names is {names!r}, not a tuple of text")
    generator.class_names = tuple(generator.class_names)
    count = len(generator.class_names)
    _require(count == generator.num_classes, name, f"{count} class_names stand beside {generator.num_classes} classes")
    layers = generator.feature_layers
    own = set(generator.modules())
    are_layers = isinstance(layers, dict) and all(isinstance(key, str) and layers[key] in own for key in layers)
    for called, vector in dict(generator.own_directions).items():
        fits = isinstance(vector, torch.Tensor) and vector.shape == (generator.latent_dim,)
        fits = fits and vector.is_floating_point() and bool(vector.isfinite().all()) and bool(vector.any())
        expected = f"no finite float tensor of {generator.latent_dim} numbers that are not all 0"
        _require(fits, name, f"own_directions has {called!r}, which is {expected}")
    _require(are_layers, name, "feature_layers is not a dictionary of names and modules of the generator")


def _check_images(generator: Generator, name: str) -> None:
    """Draws two images as the stages do: first with a gradient with respect to z, then again without one."""
    random = random_stream(Stream.GENERATOR_CHECK)
    latents, classes = generator.sample(2, random)
    found, expected = _described(latents), f"float32 {(2, generator.latent_dim)}"
    _require(found == expected, name, f"sample_latents drew {found}, not {expected}")
    again, _ = generator.sample(2, random_stream(Stream.GENERATOR_CHECK))
    _require(torch.equal(latents, again), name, "sample_latents draws other z from the same random stream")
    with torch.enable_grad(), _outputs(generator.feature_layers) as outputs:
        images = generator(latents.requires_grad_(), classes)
    for layer in generator.feature_layers:
        output, version = outputs.get(layer, (None, 0))
        has_units = isinstance(output, Tensor) and output.ndim == 4 and len(output) == 2
        found = _described(output) if layer in outputs else "nothing, because it is not called"
        _require(has_units, name, f"the feature layer {layer!r} gave {found}, not a tensor (2, units, height, width)")
        kept = output._version == version
        _require(kept, name, f"the output of the feature layer {layer!r} is changed in place, as by ReLU(inplace=True)")
    found = _described(images)
    expected = f"float32 {(2, generator.channels, generator.resolution, generator.resolution)}"
    _require(found == expected, name, f"forward returned {found}, not {expected}")
    low, high = images.min().item(), images.max().item()  # both are NaN if any value is NaN
    _require(-1 <= low <= high <= 1, name, f"the images reach from {low:.3g} to {high:.3g}, not at most from -1 to 1")
    if low >= 0:
        print(
            f"{name}: two images reach from {low:.3g} to {high:.3g}; black is -1, so scale images in [0, 1] by 2 x - 1."
        )
    _require(images.requires_grad, name, "forward cuts the gradient between z and the images, so no A can be learned")
    with torch.no_grad():
        again = generator(latents, classes)
    _require(torch.allclose(images, again, rtol=0, atol=1e-3), name, "the same z and c gave two different images")


@contextmanager
def _outputs(layers: dict[str, nn.Module]) -> Iterator[dict[str, tuple[Any, int]]]:
    """Records what the layers return in a forward pass, and its version, which an in-place operation increases."""
    found: dict[str, tuple[Any, int]] = {}

    def record(layer: str, output: Any) -> None:
        found[layer] = (output, output._version if isinstance(output, Tensor) else 0)

    handles = [
        module.register_forward_hook(lambda _module, _inputs, output, layer=layer: record(layer, output))
        for layer, module in layers.items()
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _require(fulfilled: bool, name: str, complaint: str) -> None:
    if not fulfilled:
        raise UserError(f"The generator of {name} breaks the contract: {complaint}; {GUIDE}.")


def _described(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return f"a {type(value).__name__}"


def _run(path: Path, source: bytes) -> ModuleType:
    """Runs exactly the bytes that `_identity` hashes. An import could take older code from the bytecode cache."""
    module = ModuleType(f"saliency_gan_custom_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses need to find their module
    exec(compile(source, str(path), "exec"), module.__dict__)
    return module


def _function(module: ModuleType, function_name: str) -> Callable[..., Any]:
    function = getattr(module, function_name, None)
    if callable(function):
        return function
    own = [
        key
        for key, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not key.startswith("_")
    ]
    raise UserError(
        f"{module.__file__} has no function {function_name!r}:"
        f" {'give one of ' + ', '.join(own) if own else 'it defines none'}, {GUIDE}."
    )


def _arguments(function: Callable[..., Any], weights: Path | None, name: str) -> tuple[Path, ...]:
    arguments = () if weights is None else (weights,)
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        if weights is None:
            raise UserError(f"{name} takes weights: give --weights PATH.") from None
        raise UserError(f"{name} takes no weights, but --weights {weights} was given: leave them out.") from None
    return arguments


@contextmanager
def _importing_beside(path: Path) -> Iterator[None]:
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


@contextmanager
def _naming_failures(name: str, path: Path) -> Iterator[None]:
    """Turns any error of the user's code into a UserError of one sentence that names the line in their file."""
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
        where = f" at line {line}" if line else ""
        raise UserError(f"{name} failed{where} ({type(error).__name__}: {reason_of(error)}), {GUIDE}.") from None


def _identity(source: bytes, generator: nn.Module) -> str:
    digest = hashlib.sha256(source)
    for key, tensor in generator.state_dict().items():
        if isinstance(tensor, Tensor):
            digest.update(f"{key} {_described(tensor)}".encode())
            digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
