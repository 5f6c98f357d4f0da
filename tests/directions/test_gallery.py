import numpy as np
import pytest
import torch

from saliency_gan.config import DiscoverConfig
from saliency_gan.directions.gallery import draw_ranking, write_gallery
from saliency_gan.images.reading import read_image
from saliency_gan.images.tensors import to_uint8
from saliency_gan.results.directions import BackgroundDirection
from saliency_gan.runs.random_streams import Stream, random_stream
from tests.directions.worlds import DiscWorld, cpu_fabric


def entry(index, sign=1, shift=9.0, polarity="bright"):
    return {"index": index, "rank": 1, "sign": sign, "shift": shift, "polarity": polarity, "score": 0.5,
            "parts": {"border": 0.25}}  # fmt: skip


def test_gallery_shows_every_direction_from_minus_8_to_8(tmp_path):
    world, config = DiscWorld(), DiscoverConfig(K=3, gallery_samples=2, seed=4)
    matrix = torch.eye(8)[:, :3] * torch.tensor([0.5, 1.0, 7.0])
    write_gallery(tmp_path, config, world, matrix, [entry(2), entry(0), entry(1)], {0: "size"}, None, cpu_fabric())
    assert sorted(path.name for path in tmp_path.glob("*.png")) == [f"direction-00{index}.png" for index in range(3)]
    random = random_stream(4, Stream.GALLERY)
    latents, classes = world.sample_latents(2, random), world.sample_classes(2, random)
    for index in range(3):
        sheet = read_image(tmp_path / f"direction-00{index}.png")
        assert sheet.shape == (2 * 34 - 2, 9 * 34 - 2, 3)
        for column, shift in enumerate(range(-8, 9, 2)):
            expected = to_uint8(world(latents + shift * torch.eye(8)[index], classes))
            for row in range(2):
                tile = sheet[row * 34 : row * 34 + 32, column * 34 : column * 34 + 32]
                assert np.abs(tile.astype(int) - expected[row]).max() <= 1
    page = (tmp_path / "index.html").read_text()
    places = [page.index(f'src="direction-00{index}.png"') for index in (2, 0, 1)]
    assert places == sorted(places), "in the order of the ranking"
    assert "border 0.25" in page and "score 0.500" in page
    assert page.count("size (direction 0)</h2>") == 1 and "direction 2</h2>" in page


@pytest.mark.parametrize("polarity", ["bright", "dark"])
def test_ranking_ends_each_row_with_the_mask(polarity):
    world, config = DiscWorld(polarity), DiscoverConfig(theta=0.8)
    candidates = [(entry(0, polarity=polarity), torch.eye(8)[0]), (entry(5, -1), -torch.eye(8)[5])]
    picture = draw_ranking(config, world, candidates, BackgroundDirection(0, 1, 9.0, polarity), None, cpu_fabric())
    width = 7 * 66 - 2
    assert picture.shape == (18 + 3 * 66 - 2, 2 * width + 12, 3)
    last_shift, mask = picture[18 : 18 + 64, 5 * 66 : 5 * 66 + 64], picture[18 : 18 + 64, 6 * 66 : width]
    assert set(np.unique(mask)) == {0, 204}
    grey = last_shift.mean(2) / 255
    expected = (grey if polarity == "bright" else 1 - grey) < 0.8
    assert ((mask[:, :, 0] > 0) == expected).mean() > 0.99
    assert (picture[:18, :width] < 128).any(), "a caption"


def test_only_the_chosen_block_is_marked():
    def picture(chosen):
        candidates = [(entry(0), torch.eye(8)[0]), (entry(1), torch.eye(8)[1])]
        return draw_ranking(DiscoverConfig(), DiscWorld(), candidates, chosen, None, cpu_fabric())

    width = 7 * 66 - 2
    ink = [int((picture(BackgroundDirection(index, 1, 9.0, "bright"))[:18, :width] < 128).sum()) for index in (0, 1)]
    assert ink[0] > ink[1]


def test_large_images_are_shown_at_128_pixels(tmp_path):
    world = DiscWorld()
    world.resolution = 192
    write_gallery(
        tmp_path, DiscoverConfig(gallery_samples=1), world, torch.eye(8)[:, :1], [entry(0)], {}, None, cpu_fabric()
    )
    assert read_image(tmp_path / "direction-000.png").shape == (128, 9 * 130 - 2, 3)
