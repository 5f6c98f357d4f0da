"""A name -> weights -> a frozen Generator."""

import json
from pathlib import Path

import safetensors.torch
import torch

from saliency_gan.generators.biggan import BigGAN
from saliency_gan.runs import write_bytes


def save_generator(generator: BigGAN, path: Path, dtype: torch.dtype = torch.float16) -> None:
    """Writes weights and everything else that `load_generator` needs into one safetensors file."""
    tensors = {
        name: (tensor.to(dtype) if tensor.is_floating_point() else tensor).cpu().contiguous()
        for name, tensor in generator.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    write_bytes(path, safetensors.torch.save(tensors, {"generator": json.dumps(generator.metadata())}))
