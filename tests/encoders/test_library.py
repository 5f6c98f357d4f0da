"""The libraries are imported without torch's compiler, and torch is left as it was."""

import subprocess
import sys

import pytest
import torch

from saliency_gan.encoders import library


def test_no_saliency_model_needs_the_compiler_but_it_is_there_when_asked_for() -> None:
    code = """
import sys
from saliency_gan.saliency.model import load_model
model = load_model()
assert "torch._dynamo" not in sys.modules and "torch._dynamo.utils" not in sys.modules
assert sys.modules["torchvision.ops.roi_align"].is_compile_supported("cpu") in (True, False)
assert "torch._dynamo" in sys.modules
from torch._dynamo.utils import is_compile_supported
assert is_compile_supported.__module__ == "torch._dynamo.utils"
print(sum(one.numel() for one in model.parameters()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 1_000_000


@pytest.mark.slow
def test_libraries_that_need_the_whole_compiler_get_it() -> None:
    code = """
import sys
import torch
class Eager:
    def find_spec(self, name, path=None, target=None):
        if name == "timm":
            import torch._dynamo
sys.meta_path.insert(0, Eager())
from saliency_gan.encoders.library import smp
import torch._dynamo.utils
assert torch._dynamo.utils is sys.modules["torch._dynamo.utils"] and torch._dynamo.utils.__file__
compiled = torch.compile(lambda x: x + 1, backend="eager")
print(int(compiled(torch.ones(1))))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "2"


def test_marking_works_as_before() -> None:
    assert torch.compiler.disable is library.disable
    marked = torch.compiler.disable(lambda: 3)
    assert marked() == 3
