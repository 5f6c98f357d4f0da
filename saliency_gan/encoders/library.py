"""segmentation-models-pytorch and timm, imported without torch's compiler, whose import takes as long as theirs.

Their modules need the compiler only to mark functions of networks that no saliency model here has. So while they are
imported, two names of torch are stand-ins. A function that is compiled later imports the real compiler.
"""

import importlib
import sys
from types import ModuleType
from typing import Any

import torch

COMPILER = "torch._dynamo.utils"


def _is_compile_supported(device_type: str) -> bool:
    return importlib.import_module(COMPILER).is_compile_supported(device_type)


def _not_marked(function: Any = None, *_: Any, **__: Any) -> Any:
    return function or _not_marked


def _from_compiler(name: str) -> Any:
    """Imports the compiler after all: other releases of the libraries may need more of it."""
    if name.startswith("__"):  # inspect asks every module for its file
        raise AttributeError(name)
    if sys.modules.get(COMPILER) is stand_in:
        del sys.modules[COMPILER]
    return getattr(importlib.import_module(COMPILER), name)


stand_in = ModuleType(COMPILER)
vars(stand_in).update(is_compile_supported=_is_compile_supported, __getattr__=_from_compiler)
disable, imported_before = torch.compiler.disable, COMPILER in sys.modules
if not imported_before:
    sys.modules[COMPILER], torch.compiler.disable = stand_in, _not_marked  # type: ignore[assignment]
try:
    import segmentation_models_pytorch as smp
    from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoderBlock
    from timm.layers import BatchNormAct2d, Conv2dSame
finally:
    torch.compiler.disable = disable
    if sys.modules.get(COMPILER) is stand_in:
        del sys.modules[COMPILER]

__all__ = ["BatchNormAct2d", "Conv2dSame", "UnetDecoderBlock", "smp"]
