import pytest
import torch

from saliency_gan.compute.failures import explain
from saliency_gan.config import DiscoverConfig, EvaluateConfig, PredictConfig, TrainSaliencyConfig
from saliency_gan.errors import StageError, UserError
from saliency_gan.runs.stage_folder import StageFolder

CPU_MESSAGE = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to"


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), RuntimeError(CPU_MESSAGE), MemoryError()],
)
def test_too_little_memory_names_the_settings(error):
    assert str(explain(error, DiscoverConfig(batch=64, accumulate=2))) == (
        "The memory is too small for a batch of 64: do it in more parts with --accumulate 4, or spread it over more"
        " devices with torchrun, or begin anew in another --run with --batch below 64."
    )
    assert "with --precision bf16 or --batch below 32" in str(explain(error, DiscoverConfig(precision="fp32")))
    assert str(explain(error, PredictConfig(batch=1, resolution=32))) == (
        "The memory is too small for a batch of 1: free some memory."
    )
    assert "--batch below 64 or --resolution below 96" in str(
        explain(error, TrainSaliencyConfig(batch=64, resolution=96, precision="bf16"))
    )
    assert str(explain(error, EvaluateConfig())) == "The memory is too small for a batch of 16: give --batch below 16."


def test_other_errors_speak_for_themselves():
    for error in (None, ValueError("x"), RuntimeError("Connection closed by peer"), UserError("x")):
        assert explain(error, DiscoverConfig()) is None


def test_a_stage_that_asks_for_too_much_memory_ends_with_the_sentence(tmp_path):
    expected = pytest.raises(StageError, match=r"^The memory is too small for a batch of 32: do it in more parts with")
    with expected, StageFolder(DiscoverConfig(run=tmp_path), "discover"):
        torch.empty(2**60, dtype=torch.uint8)
    with StageFolder(DiscoverConfig(run=tmp_path, accumulate=2), "discover"):  # what it advises is accepted
        pass


def test_a_killed_worker_is_explained():
    error = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")
    assert "or do it in the main process with --workers 0" in str(explain(error, TrainSaliencyConfig()))


def test_a_lost_process_and_a_failed_compilation_are_explained(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    monkeypatch.setenv("WORLD_SIZE", "2")
    lost = RuntimeError("[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:1")
    assert "Another process of this job ended" in str(explain(lost, DiscoverConfig()))
    failed = torch._dynamo.exc.TorchDynamoException("no C++ compiler")
    assert str(explain(failed, DiscoverConfig(compile=True))) == (
        "The networks could not be compiled (no C++ compiler): leave --compile out."
    )
    assert explain(failed, DiscoverConfig()) is None
