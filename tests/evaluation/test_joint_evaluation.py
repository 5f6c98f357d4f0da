"""Two processes that evaluate together write what one writes."""

from dataclasses import replace
from pathlib import Path

from saliency_gan.config import EvaluateConfig
from saliency_gan.evaluation.evaluate import evaluate
from saliency_gan.saliency import predictor
from tests.evaluation.test_evaluate import COUNT, FILES, FakePredictor
from tests.evaluation.test_evaluate import folders as folders
from tests.jobs import run_job


def _evaluate(config: EvaluateConfig) -> list[int]:
    """Runs the stage; returns how many photos this process predicted, the examples in the pictures left out."""
    made: list[FakePredictor] = []
    predictor.load_saliency_model = lambda path, device: made.append(FakePredictor(0.8)) or made[-1]
    evaluate(config)
    return sum(made[0].batches[:3])


def test_two_processes_write_the_files_of_one(tmp_path, folders):
    images, masks = folders
    (images / "005.png").write_bytes(b"no image")
    (images / "010.png").write_bytes(b"no image either")
    config = EvaluateConfig(run=tmp_path / "together", images=images, masks=masks, device="cpu", batch=3, workers=0)
    alone = replace(config, run=tmp_path / "alone")
    evaluated = run_job(_evaluate, config)
    run_job(_evaluate, alone, processes=1)
    assert evaluated == [7, 6] and sum(evaluated) == COUNT - 2
    for name in FILES:
        first, second = (one.run / "evaluation" / name.format("set") for one in (config, alone))
        assert first.read_bytes() == second.read_bytes(), name


def test_a_process_may_have_nothing_to_do(tmp_path, folders):
    images, masks = folders
    for path in sorted(images.iterdir())[1:]:
        path.unlink()
        (masks / path.name).unlink()
    config = EvaluateConfig(run=tmp_path / "run", images=images, masks=masks, device="cpu", workers=0)
    run_job(evaluate, replace(config, maps=masks, baselines=False))
    assert Path(tmp_path / "run" / "evaluation" / "set-masks.json").exists()
