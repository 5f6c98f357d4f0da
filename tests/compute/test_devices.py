import re

import pytest
import torch

from saliency_gan.compute import processes
from saliency_gan.compute.devices import make_fabric, peak_memory, pick_device, pick_precision
from saliency_gan.compute.processes import own_parts
from saliency_gan.errors import UserError
from tests.jobs import run_job


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_takes_the_fastest_that_is_there(monkeypatch, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert pick_device("auto").type == expected
    assert pick_device("cpu").type == "cpu"


def test_a_device_that_does_not_exist_is_refused():
    with pytest.raises(UserError, match="no device cud: give auto, cpu"):
        pick_device("cud")


def test_a_device_that_is_missing_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"--device cuda was asked for, but torch .* finds none: use --device cpu"):
        pick_device("cuda")


@pytest.mark.parametrize(("precision", "computed"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_precision_is_that_of_matrix_products_and_not_of_weights(precision, computed):
    fabric = make_fabric("cpu", precision)
    layer = torch.nn.Linear(4, 4)
    with fabric.autocast():
        assert layer(torch.ones(1, 4)).dtype == computed
    assert fabric.setup_module(layer).weight.dtype == torch.float32


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_precision_is_bf16_only_where_the_hardware_computes_in_it(monkeypatch, native, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": native}, raising=False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    assert pick_precision("auto", torch.device("cpu")) == expected
    assert pick_precision("auto", torch.device("cuda")) == expected
    assert pick_precision("auto", torch.device("mps")) == "fp32"


def test_a_precision_that_is_asked_for_is_kept(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
    assert [pick_precision(one, torch.device("cpu")) for one in ("fp32", "bf16")] == ["fp32", "bf16"]


def test_auto_precision_is_fp32_where_torch_cannot_tell(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert pick_precision("auto", torch.device("cpu")) == "fp32"


def test_the_parts_of_all_processes_make_up_the_batch(monkeypatch):
    assert own_parts(6, 1) == [range(0, 6)] and own_parts(6, 2) == [range(0, 3), range(3, 6)]
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    monkeypatch.setenv("WORLD_SIZE", "3")
    found = []
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        found.append(own_parts(12, 2))
    assert found == [
        [range(0, 2), range(6, 8)],
        [range(2, 4), range(8, 10)],
        [range(4, 6), range(10, 12)],
    ]
    with pytest.raises(UserError, match=r"--batch 8 cannot be cut .* for 3 processes .*: give a multiple of 6"):
        own_parts(8, 2)
    with pytest.raises(UserError, match="--accumulate 0"):
        own_parts(9, 0)


def test_every_process_of_a_machine_has_its_own_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("cuda") == torch.device("cuda")
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": 4, "LOCAL_WORLD_SIZE": 2, "LOCAL_RANK": 1}.items():
        monkeypatch.setenv(name, str(value))
    assert pick_device("auto") == torch.device("cuda", 1) and pick_device("cpu") == torch.device("cpu")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    with pytest.raises(UserError, match="started 4 processes on a machine with 2 of the device cuda: give --nproc"):
        pick_device("cuda")
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert pick_device("cuda", shared=True) == torch.device("cuda", 1)


def _gradients(shared: bool) -> float:
    fabric, rank = make_fabric("cpu", "fp32", shared), processes.rank()
    layer = fabric.setup_module(torch.nn.Linear(1, 1, bias=False))
    fabric.backward(layer(torch.full((1, 1), float(rank))).sum())
    return float(next(layer.parameters()).grad)


def test_processes_that_share_a_device_keep_their_gradients_to_themselves():
    assert run_job(_gradients, True) == [0.0, 1.0]
    assert run_job(_gradients, False) == [0.5, 0.5]


def test_the_memory_of_a_step_is_that_of_the_process():
    block = torch.ones(300_000_000, dtype=torch.uint8)
    match = re.fullmatch(r"A training step takes up to (\S+) GB of memory, .*", peak_memory(torch.device("cpu")))
    assert match and 0.3 <= float(match[1]) < 64
    del block
