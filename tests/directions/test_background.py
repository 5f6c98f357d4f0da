import pytest
import torch

from saliency_gan.config import DiscoverConfig
from saliency_gan.directions.background import COARSE_SAMPLES, FINALISTS, choose_background
from saliency_gan.directions.criteria import CRITERIA, combine
from saliency_gan.directions.optimised import optimise_direction
from tests.directions.worlds import DiscWorld, cpu_fabric


def choose(world: DiscWorld, matrix: torch.Tensor | None = None, among=None, **settings):
    config = DiscoverConfig(K=8, precision="fp32", **settings)
    return choose_background(config, world, torch.eye(8) if matrix is None else matrix, among, cpu_fabric())


@pytest.mark.parametrize("polarity", ["bright", "dark"])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_direction_that_clears_the_background_wins(polarity, sign):
    choice = choose(DiscWorld(polarity, sign))
    background = choice.background
    assert (background.index, background.sign, background.polarity) == (DiscWorld.CLEAR, sign, polarity)
    assert (background.method, background.chosen_by) == ("rank", "auto")
    assert torch.equal(choice.vector, sign * torch.eye(8)[DiscWorld.CLEAR])
    assert background.score > 2 * choice.scores[1]["score"], "nothing else comes near"


def test_it_wins_among_mixed_directions_of_any_length():
    """A random rotation whose fourth column is the right direction, with columns of different lengths."""
    square = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    square[:, 0] = torch.eye(8)[DiscWorld.CLEAR]
    rotated = torch.linalg.qr(square).Q[:, [3, 1, 2, 0, 4, 5, 6, 7]] * torch.linspace(0.2, 5, 8)
    choice = choose(DiscWorld(), rotated)
    assert choice.background.index == 3
    assert choice.vector[DiscWorld.CLEAR].item() == pytest.approx(1, abs=1e-5)
    assert choice.background.sign == (1 if rotated[0, 3] > 0 else -1)


def test_whitening_everything_darkening_everything_and_doing_nothing_score_low():
    scores = {entry["index"]: entry["score"] for entry in choose(DiscWorld()).scores}
    for index in set(range(8)) - {DiscWorld.CLEAR}:
        assert scores[index] < 0.3


def test_scores_are_complete_and_in_order():
    choice = choose(DiscWorld(), background_samples=40)
    assert sorted(entry["index"] for entry in choice.scores) == list(range(8))
    assert [entry["rank"] for entry in choice.scores] == list(range(1, 9))
    fine = [entry for entry in choice.scores if entry["samples"] == 40]
    coarse = [entry for entry in choice.scores if entry["samples"] == COARSE_SAMPLES]
    assert choice.scores == fine + coarse and 1 <= len(fine) <= FINALISTS
    for group in (fine, coarse):
        assert group == sorted(group, key=lambda entry: -entry["score"])
    for entry in choice.scores:
        assert set(entry) == {"index", "rank", "sign", "shift", "polarity", "score", "parts", "samples"}
        assert set(entry["parts"]) == set(CRITERIA)
        assert entry["score"] == pytest.approx(combine(entry["parts"]))


def test_a_shift_too_weak_to_clear_the_background_is_not_taken():
    assert choose(DiscWorld(), background_shifts=(1.0, 8.0)).background.shift == 8.0


def test_a_person_overrules_and_the_polarity_is_measured():
    choice = choose(DiscWorld("dark"), direction=DiscWorld.CLEAR, sign=1, shift=7.0)
    assert choice.background.polarity == "dark"
    choice = choose(DiscWorld(), direction=DiscWorld.WHITEN, sign=-1, shift=5.0)
    background = choice.background
    assert (background.index, background.sign, background.shift) == (DiscWorld.WHITEN, -1, 5.0)
    assert background.chosen_by == "user"
    assert torch.equal(choice.vector, -torch.eye(8)[DiscWorld.WHITEN])
    assert choice.scores[0]["index"] == DiscWorld.CLEAR, "the ranking is still there to look at"


def test_repeats_under_a_seed_and_ignores_the_global_stream():
    torch.manual_seed(1)
    first = choose(DiscWorld())
    torch.manual_seed(2)
    assert choose(DiscWorld()).scores == first.scores
    assert choose(DiscWorld(), seed=5).scores != first.scores


def test_only_the_classes_asked_for_are_drawn():
    seen = []

    class Spy(DiscWorld):
        def forward(self, latents, classes):
            seen.extend(classes.tolist())
            return super().forward(latents, classes)

    choose(Spy(), among=[0, 2], background_samples=20)
    assert set(seen) == {0, 2}


def test_the_search_computes_as_many_images_at_once_as_training():
    class Spy(DiscWorld):
        def forward(self, latents, classes):
            sizes.append(len(latents))
            return super().forward(latents, classes)

    found = []
    for accumulate in (1, 4):
        sizes: list[int] = []
        config = DiscoverConfig(batch=8, accumulate=accumulate, optimise_steps=5)
        found.append(optimise_direction(config, Spy(), "bright", None, cpu_fabric()))
        assert set(sizes) == {8 // accumulate}
    torch.testing.assert_close(*found, rtol=0, atol=1e-4)


@pytest.mark.parametrize("polarity", ["bright", "dark"])
def test_optimised_direction_finds_the_coordinate(polarity):
    choice = choose(DiscWorld(polarity), method="optimise", optimise_steps=80, batch=8)
    background = choice.background
    assert (background.index, background.method, background.polarity) == (None, "optimise", polarity)
    assert choice.vector.norm().item() == pytest.approx(1, abs=1e-5)
    assert choice.vector.abs().argmax() == DiscWorld.CLEAR
    assert choice.vector[DiscWorld.CLEAR] > 0.8
    assert background.score > 0.7 and background.score == pytest.approx(combine(background.parts))
    assert len(choice.scores) == 8
