"""What of a video file the results keep, and what damaged and hostile ones give."""

import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from saliency_gan.config import PredictConfig
from saliency_gan.errors import StageError, UserError
from saliency_gan.images import ImageArray
from saliency_gan.prediction import video_input, video_output
from saliency_gan.prediction.backgrounds import Background
from saliency_gan.prediction.jobs import VIDEO_SUFFIXES, Job, find_jobs
from saliency_gan.prediction.video import mark_video
from saliency_gan.prediction.video_sound import Clock
from saliency_gan.saliency.photo_predictor import PhotoPredictor
from saliency_gan.storage.provenance import Source, Sources

HEIGHT, WIDTH = 48, 64
MS = Fraction(1, 1000)
RATE = 48_000


class Everything:
    """Marks all there is, so that a cut-out is the frame itself."""

    resolution = 32

    def maps(self, squares: ImageArray) -> NDArray[np.float32]:
        return np.ones(squares.shape[:3], np.float32)


def picture(index: int = 0) -> ImageArray:
    """A quarter of each of four colours, and a bright square that moves."""
    image = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    image[:24, :32], image[:24, 32:] = (200, 30, 30), (30, 160, 30)
    image[24:, :32], image[24:, 32:] = (30, 30, 200), (120, 120, 120)
    left = 4 * (index % 12)
    image[20:28, left : left + 8] = 250
    return image


def noise(index: int) -> ImageArray:
    """Something that takes many bytes."""
    return np.random.default_rng(index).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def tone(seconds: float) -> NDArray[np.float32]:
    """440 Hz."""
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


@dataclass
class Recipe:
    """How a test's video is made; `times` and `last` in units of `base`."""

    times: Sequence[int] = tuple(range(0, 480, 40))
    last: int = 40
    base: Fraction = MS
    rate: int | Fraction = 25
    codec: str = "libx264"
    pixel_format: str = "yuv420p"
    options: tuple[tuple[str, str], ...] = ()
    movflags: str = ""
    aspect: Fraction = Fraction(1)
    turn: tuple[int, bool, bool] | None = None
    sound: str = ""
    sound_start: float = 0.0
    image: Callable[[int], ImageArray] = picture
    matrix: int = 0

    def write(self, path: Path) -> Path:
        options = {"movflags": self.movflags} if self.movflags else {}
        with av.open(str(path), "w", options=options) as file:
            video: Any = file.add_stream(self.codec, rate=self.rate, options=dict(self.options))
            video.height, video.width, video.pix_fmt = *self.image(0).shape[:2], self.pixel_format
            context = video.codec_context
            context.time_base, context.sample_aspect_ratio = self.base, self.aspect
            context.flags |= av.codec.context.Flags.frame_duration
            if self.matrix:
                context.colorspace = self.matrix
            if self.turn:
                video.set_display_rotation(*self.turn)
            sound: Any = file.add_stream(self.sound, rate=RATE, layout="mono", bit_rate=128_000) if self.sound else None
            for index, time in enumerate(self.times):
                frame = av.VideoFrame.from_ndarray(self.image(index), "rgb24")
                frame = frame.reformat(format=self.pixel_format, dst_colorspace=self.matrix or None)
                frame.pts, frame.time_base = time, self.base
                frame.duration = (*self.times[1:], self.times[-1] + self.last)[index] - time
                file.mux(video.encode(frame))
            file.mux(video.encode(None))
            if sound:
                length = float((self.times[-1] + self.last) * self.base) - self.sound_start
                samples = av.AudioFrame.from_ndarray(tone(length)[None], "fltp", "mono")
                samples.sample_rate, samples.pts = RATE, round(self.sound_start * RATE)
                samples.time_base = Fraction(1, RATE)
                file.mux(sound.encode(samples))
                file.mux(sound.encode(None))
        return path


@dataclass
class Result:
    """What a file holds, times in seconds."""

    images: list[ImageArray]
    times: list[float]
    end: float
    aspect: Fraction
    codecs: list[str]

    @classmethod
    def read(cls, path: Path) -> "Result":
        with av.open(str(path)) as file:
            stream = file.streams.video[0]
            frames = list(file.decode(stream))
            assert stream.time_base is not None
            end = max(frame.pts + frame.duration for frame in frames if frame.pts is not None) * stream.time_base
            return cls(
                [np.asarray(frame.to_ndarray(format="rgb24")) for frame in frames],
                [frame.time for frame in frames],
                float(end),
                stream.sample_aspect_ratio or Fraction(1),
                [each.codec_context.codec.canonical_name for each in file.streams],
            )


def sound_of(path: Path) -> tuple[NDArray[np.float32], float]:
    """Samples of the first channel and the second at which they begin."""
    with av.open(str(path)) as file:
        frames = list(file.decode(audio=0))
    return np.concatenate([np.asarray(frame.to_ndarray())[0] for frame in frames]), frames[0].time or 0.0


def packets_of(path: Path) -> list[tuple[float, bytes]]:
    with av.open(str(path)) as file:
        return [(float(packet.pts * packet.time_base), bytes(packet)) for packet in file.demux(audio=0) if packet.size]


Marking = Callable[..., tuple[Path, list[str]]]


@pytest.fixture
def config(tmp_path: Path) -> PredictConfig:
    return PredictConfig(output=tmp_path / "out", save=("cutout",), smooth=0.0, batch=3)


@pytest.fixture
def mark(config: PredictConfig) -> Marking:
    """Marks a video; returns the cut-out, which shows the frames as they are, and what is said."""

    def run(path: Path) -> tuple[Path, list[str]]:
        job = Job(path, Path("result"), Source.of(path))
        said = mark_video(job, PhotoPredictor(Everything(), flip=False), Background("white"), config)
        return config.output / "cutout" / "result.mp4", said

    return run


class TestTime:
    def test_frames_are_shown_when_they_were(self, mark: Marking, tmp_path: Path) -> None:
        times = (0, 33, 67, 500, 517, 1900, 1901, 2500)
        path, said = mark(Recipe(times, last=750).write(tmp_path / "a.mp4"))
        result = Result.read(path)
        assert said == []
        assert result.times == pytest.approx([time / 1000 for time in times], abs=1e-9)
        assert result.end == pytest.approx(3.25, abs=1e-9)

    @pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
    def test_a_header_that_says_1000_frames_a_second(self, mark: Marking, tmp_path: Path, suffix: str) -> None:
        times = tuple(range(0, 43 * 65, 65))
        result = Result.read(mark(Recipe(times, last=65, rate=1000).write(tmp_path / f"a{suffix}"))[0])
        assert result.times == pytest.approx([time / 1000 for time in times], abs=1e-9)
        assert result.end == pytest.approx(2.795, abs=0.065)  # mkv: the last one lasts as the header says

    def test_480_frames_a_second(self, mark: Marking, tmp_path: Path) -> None:
        recipe = Recipe(tuple(range(20)), last=1, base=Fraction(1, 480), rate=480)
        result = Result.read(mark(recipe.write(tmp_path / "a.mp4"))[0])
        assert result.times == pytest.approx([index / 480 for index in range(20)], abs=1e-9)
        assert result.end == pytest.approx(20 / 480, abs=1e-9)

    def test_frames_predicted_from_later_ones_keep_their_times(self, mark: Marking, tmp_path: Path) -> None:
        recipe = Recipe(options=(("bf", "3"), ("preset", "medium")), image=noise)
        result = Result.read(mark(recipe.write(tmp_path / "a.mp4"))[0])
        assert result.times == pytest.approx([time / 1000 for time in recipe.times], abs=1e-9)

    def test_a_file_that_begins_late_begins_at_0(self, mark: Marking, tmp_path: Path) -> None:
        times = tuple(range(90_000, 91_000, 100))
        path = Recipe(times, last=100, sound="aac", sound_start=90.2).write(tmp_path / "a.ts")
        result, _ = mark(path)
        assert Result.read(result).times == pytest.approx([index / 10 for index in range(10)], abs=2e-5)
        assert packets_of(result)[0][0] == pytest.approx(0.2 - 1024 / RATE, abs=1e-3)  # as an encoder primes itself

    def test_times_that_jump_back_go_on(self, mark: Marking, tmp_path: Path) -> None:
        recipe = Recipe(tuple(range(0, 500, 100)), last=100)
        once = recipe.write(tmp_path / "once.ts").read_bytes()
        (tmp_path / "twice.ts").write_bytes(once + once)
        result = Result.read(mark(tmp_path / "twice.ts")[0])
        assert result.times == pytest.approx([index / 10 for index in range(10)], abs=1e-3)


class TestClock:
    def test_times_begin_at_the_origin(self) -> None:
        clock = Clock(100, 1)
        assert [clock.tell(time, 5) for time in (100, 107, 130)] == [0, 7, 30]

    def test_what_is_missing_or_goes_back_follows_the_last(self) -> None:
        clock = Clock(0, 4)
        assert [clock.tell(time, 0) for time in (None, None, 10, 10, 13, 2, None, 5)] == [0, 4, 10, 16, 19, 22, 25, 28]


class TestShape:
    @pytest.mark.parametrize("flips", [(False, False), (True, False), (False, True)])
    @pytest.mark.parametrize("degrees", [0, 90, 180, -90])
    def test_results_are_upright(self, mark: Marking, tmp_path: Path, degrees: int, flips: tuple[bool, bool]) -> None:
        path, _ = mark(Recipe((0, 40), turn=(degrees, *flips)).write(tmp_path / "a.mp4"))
        upright = np.rot90(picture(), degrees // 90)
        upright = upright[:, ::-1] if flips[0] else upright
        upright = upright[::-1] if flips[1] else upright
        result = Result.read(path).images[0]
        assert result.shape == upright.shape
        assert np.abs(result.astype(int) - upright).mean() < 8

    def test_a_picture_beside_which_lies_something_unknown_is_turned(self, mark: Marking, tmp_path: Path) -> None:
        class Beside(dict):
            def __getitem__(self, key: object) -> Any:
                raise ValueError("36 is not a valid Type")

        @dataclass
        class Frame:
            rotation: int
            side_data: Beside

        for degrees, turned in ((90, [[0, -1], [1, 0]]), (180, [[-1, 0], [0, -1]])):
            assert np.allclose(video_input._directions(Frame(degrees, Beside())), turned)  # type: ignore[arg-type]

    @pytest.mark.parametrize(("degrees", "expected"), [(0, Fraction(16, 11)), (90, Fraction(11, 16))])
    def test_pixels_that_are_not_square(self, mark: Marking, tmp_path: Path, degrees: int, expected: Fraction) -> None:
        recipe = Recipe((0, 40), aspect=Fraction(16, 11), turn=(degrees, False, False))
        assert Result.read(mark(recipe.write(tmp_path / "a.mp4"))[0]).aspect == expected

    def test_sizes_that_change_become_the_first(self, mark: Marking, tmp_path: Path) -> None:
        small = Recipe((0, 40)).write(tmp_path / "a.ts").read_bytes()
        large = Recipe((0, 40), image=lambda _: np.full((96, 80, 3), 200, np.uint8)).write(tmp_path / "b.ts")
        (tmp_path / "c.ts").write_bytes(small + large.read_bytes())
        images = Result.read(mark(tmp_path / "c.ts")[0]).images
        assert [image.shape for image in images] == [(HEIGHT, WIDTH, 3)] * 4
        assert np.abs(images[3].astype(int) - 200).max() < 10

    def test_colours_are_those_of_the_files_matrix(self, mark: Marking, tmp_path: Path) -> None:
        for matrix in (0, 1, 5):  # none said, BT.709, BT.601
            path, _ = mark(Recipe((0, 40), matrix=matrix).write(tmp_path / "a.mp4"))
            image = Result.read(path).images[0]
            for row, column in ((8, 16), (8, 56), (40, 16), (40, 56)):
                np.testing.assert_allclose(image[row, column].astype(int), picture()[row, column], atol=8)

    def test_large_frames_that_name_no_matrix_are_bt_709(self, mark: Marking, tmp_path: Path) -> None:
        def large(_: int) -> ImageArray:
            return np.full((720, 64, 3), (200, 30, 30), np.uint8)

        source = Recipe((0,), image=large, codec="mpeg4").write(tmp_path / "a.avi")
        with av.open(str(source)) as file:
            frame = next(file.decode(video=0))
            expected = np.asarray(frame.to_ndarray(format="rgb24", src_colorspace="itu709"))[300, 30]
        found = Result.read(mark(source)[0]).images[0][300, 30]
        np.testing.assert_allclose(found.astype(int), expected, atol=6)

    def test_more_pixels_than_allowed(
        self, mark: Marking, tmp_path: Path, config: PredictConfig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = Recipe((0, 40)).write(tmp_path / "a.mp4")
        monkeypatch.setattr(video_input, "MAX_PIXELS", HEIGHT * WIDTH - 1)
        with pytest.raises(UserError, match="more than the 3,071 pixels"):
            mark(path)
        assert not config.output.exists()

    def test_large_frames_make_small_batches(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = Recipe(tuple(range(0, 280, 40))).write(tmp_path / "a.mp4")
        for pixels, sizes in ((3 * HEIGHT * WIDTH, [3, 3, 1]), (1, [1] * 7), (10**9, [5, 2])):
            monkeypatch.setattr(video_input, "BATCH_PIXELS", pixels)
            with video_input.opened(path) as video:
                assert [len(frames) for frames, _ in video.batches(5) if frames] == sizes

    def test_more_pixels_on_the_way_are_not_decoded(
        self, mark: Marking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        small = Recipe((0, 40)).write(tmp_path / "a.ts").read_bytes()
        large = Recipe((0, 40), image=lambda _: np.full((480, 640, 3), 200, np.uint8)).write(tmp_path / "b.ts")
        (tmp_path / "c.ts").write_bytes(small + large.read_bytes())
        monkeypatch.setattr(video_input, "MAX_PIXELS", 200_000)
        path, said = mark(tmp_path / "c.ts")
        assert len(Result.read(path).images) == 2 and "2 of about 4 frames" in said[0]


class TestSound:
    @pytest.mark.parametrize(
        ("suffix", "codec"), [(".mp4", "aac"), (".mkv", "libmp3lame"), (".mov", "alac"), (".mkv", "libopus")]
    )
    def test_what_mp4_can_hold_is_copied(self, mark: Marking, tmp_path: Path, suffix: str, codec: str) -> None:
        source = Recipe(sound=codec, sound_start=0.1).write(tmp_path / f"a{suffix}")
        path, said = mark(source)
        assert said == []
        before, after = packets_of(source), packets_of(path)
        assert [data for _, data in after] == [data for _, data in before] and len(after) > 3
        shift = min(0.0, before[0][0])
        for (time, _), (expected, _) in zip(after, before, strict=True):
            assert time == pytest.approx(expected - shift, abs=2e-3) or time == pytest.approx(expected, abs=2e-3)

    @pytest.mark.parametrize("suffix", [".ts", ".flv"])
    def test_aac_in_other_wrappings_is_copied(self, mark: Marking, tmp_path: Path, suffix: str) -> None:
        source = Recipe(sound="aac").write(tmp_path / f"a{suffix}")
        path, _ = mark(source)
        assert Result.read(path).codecs == ["h264", "aac"]
        before, after = sound_of(source)[0], sound_of(path)[0]
        assert len(after) == pytest.approx(len(before), abs=2048)
        assert pitch(after) == pytest.approx(440, abs=5)

    @pytest.mark.parametrize(
        ("suffix", "video", "sound"),
        [(".avi", "mpeg4", "pcm_s16le"), (".mkv", "mpeg4", "wavpack"), (".wmv", "wmv2", "wmav2")],
    )
    def test_other_sound_is_encoded_anew(
        self, mark: Marking, tmp_path: Path, suffix: str, video: str, sound: str
    ) -> None:
        source = Recipe(
            tuple(range(25)), last=1, base=Fraction(1, 25), codec=video, sound=sound, sound_start=0.4
        ).write(tmp_path / f"a{suffix}")
        path, said = mark(source)
        assert said == [] and Result.read(path).codecs == ["h264", "aac"]
        samples, start = sound_of(path)
        loud = np.flatnonzero(np.abs(samples) > 0.2)
        assert start + loud[0] / RATE == pytest.approx(sound_start_of(source), abs=0.06)
        assert (loud[-1] - loud[0]) / RATE == pytest.approx(seconds_of_sound(source), abs=0.03)
        assert pitch(samples[loud[0] : loud[-1]]) == pytest.approx(440, abs=5)

    def test_every_kind_and_every_track_has_it(self, tmp_path: Path, config: PredictConfig) -> None:
        source = two_tracks(tmp_path / "a.mkv")
        job = Job(source, Path("result"), Source.of(source))
        config = PredictConfig(output=config.output, save=("map", "mask"))
        mark_video(job, PhotoPredictor(Everything(), flip=False), Background("white"), config)
        for kind in config.save:
            assert Result.read(config.output / kind / "result.mp4").codecs == ["h264", "aac", "aac"]

    @pytest.mark.parametrize(
        ("rate", "layout", "expected"),
        [(8000, "mono", (8000, "mono")), (192_000, "2.1", (96_000, "stereo")), (48_000, "5.1(side)", (48_000, "5.1"))],
    )
    def test_rates_and_channels_that_aac_has_not(
        self, mark: Marking, tmp_path: Path, rate: int, layout: str, expected: tuple[int, str]
    ) -> None:
        with av.open(str(tmp_path / "a.mkv"), "w") as file:
            video: Any = file.add_stream("mpeg4", rate=10)
            video.height, video.width = HEIGHT, WIDTH
            sound: Any = file.add_stream("pcm_s16le", rate=rate, layout=layout)
            file.mux(video.encode(av.VideoFrame.from_ndarray(picture(), "rgb24")))
            file.mux(video.encode(None))
            wave = np.zeros((av.AudioLayout(layout).nb_channels, rate), np.float32)
            samples = av.AudioFrame.from_ndarray(wave, "fltp", layout)
            samples.sample_rate, samples.pts, samples.time_base = rate, 0, Fraction(1, rate)
            file.mux(sound.encode(samples))
        path, said = mark(tmp_path / "a.mkv")
        with av.open(str(path)) as file:
            context = file.streams.audio[0].codec_context
            assert (context.sample_rate, context.layout.name) == expected and said == []
        assert len(sound_of(path)[0]) / context.sample_rate == pytest.approx(1, abs=0.05 if rate > 8000 else 0.3)

    def test_sound_longer_than_the_film(self, mark: Marking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(video_input, "MOST_SOUND", 5)
        source = two_tracks(tmp_path / "a.mkv", seconds=2.0)
        path, _ = mark(source)
        assert len(sound_of(path)[0]) / RATE == pytest.approx(2.0, abs=0.1)


def two_tracks(path: Path, seconds: float = 0.5) -> Path:
    """Two frames, a track of AAC and one of PCM."""
    with av.open(str(path), "w") as file:
        video: Any = file.add_stream("mpeg4", rate=10)
        video.height, video.width = HEIGHT, WIDTH
        tracks: list[Any] = [file.add_stream(codec, rate=RATE, layout="mono") for codec in ("aac", "pcm_s16le")]
        for index in range(2):
            frame = av.VideoFrame.from_ndarray(picture(index), "rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 10)
            file.mux(video.encode(frame))
        file.mux(video.encode(None))
        for track in tracks:
            samples = av.AudioFrame.from_ndarray(tone(seconds)[None], "fltp", "mono")
            samples.sample_rate, samples.pts, samples.time_base = RATE, 0, Fraction(1, RATE)
            file.mux(track.encode(samples))
            file.mux(track.encode(None))
    return path


def seconds_of_sound(path: Path) -> float:
    """From the first loud sample to the last."""
    samples = sound_of(path)[0]
    loud = np.flatnonzero(np.abs(samples) > 0.2 * np.abs(samples).max())
    return (loud[-1] - loud[0]) / RATE


def sound_start_of(path: Path) -> float:
    """Seconds from the file's beginning until there is sound."""
    samples, start = sound_of(path)
    samples = samples / max(1, np.abs(samples).max())
    with av.open(str(path)) as file:
        return start - (file.start_time or 0) / 1e6 + np.flatnonzero(np.abs(samples) > 0.2)[0] / RATE


def pitch(samples: NDArray[np.float32]) -> float:
    """The strongest frequency in Hz."""
    middle = samples[len(samples) // 4 : -len(samples) // 4]
    return float(np.abs(np.fft.rfft(middle, 2**17)).argmax() * RATE / 2**17)


class TestFormats:
    @pytest.mark.parametrize(
        ("suffix", "codec"),
        [
            (".mp4", "libx265"), (".m4v", "mpeg4"), (".mov", "mjpeg"), (".3gp", "libx264"), (".avi", "mpeg4"),
            (".mkv", "libx264"), (".webm", "libvpx"), (".mpg", "mpeg1video"), (".mpeg", "mpeg2video"),
            (".ts", "libx264"), (".wmv", "wmv2"), (".flv", "flv"),
        ],
    )  # fmt: skip
    def test_every_suffix_is_read(self, mark: Marking, tmp_path: Path, suffix: str, codec: str) -> None:
        formats = {".m4v": ".mp4", ".mpeg": ".mpg"}
        recipe = Recipe(
            tuple(range(12)), last=1, base=Fraction(1, 25), codec=codec,
            pixel_format="yuvj420p" if codec == "mjpeg" else "yuv420p",
            options=(("x265-params", "log-level=none"),) if codec == "libx265" else (),
        )  # fmt: skip
        made = recipe.write(tmp_path / f"made{formats.get(suffix, suffix)}").rename(tmp_path / f"100%d{suffix}")
        jobs, problems, *_ = find_jobs([tmp_path], Sources(tmp_path / "out"))
        assert [job.path for job in jobs] == [made] and jobs[0].is_video and not problems
        path, said = mark(made)
        result = Result.read(path)
        assert said == []
        assert result.times == pytest.approx([index / 25 for index in range(12)], abs=1.01e-3)
        for index in (0, 11):
            assert np.abs(result.images[index].astype(int) - picture(index)).mean() < 12

    def test_all_suffixes_are_tested(self) -> None:
        tested = re.findall(r'\("(\.\w+)", "\w+"\)', Path(__file__).read_text().split("class TestFormats")[1])
        assert set(tested) == VIDEO_SUFFIXES

    def test_results_are_h264_that_browsers_play(self, mark: Marking, tmp_path: Path) -> None:
        with av.open(str(mark(Recipe().write(tmp_path / "a.mp4"))[0])) as file:
            context: Any = file.streams.video[0].codec_context
            assert (context.name, context.pix_fmt, file.format.name.split(",")[1]) == ("h264", "yuv420p", "mp4")

    def test_without_h264_it_is_mpeg_4(self, mark: Marking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(video_output, "ENCODERS", {"mpeg4": video_output.ENCODERS["mpeg4"]})
        recipe = Recipe((0, 9_000, 20_000), last=3_000, base=Fraction(1, 90_000))
        result = Result.read(mark(recipe.write(tmp_path / "a.mp4"))[0])
        assert result.codecs == ["mpeg4"]
        assert result.times == pytest.approx([0, 0.1, 20 / 90], abs=1 / 65_000)
        assert np.abs(result.images[2].astype(int) - picture(2)).mean() < 12

    def test_sound_alone_is_no_video(self, mark: Marking, tmp_path: Path) -> None:
        with av.open(str(tmp_path / "a.mp4"), "w") as file:
            stream: Any = file.add_stream("aac", rate=RATE, layout="mono")
            samples = av.AudioFrame.from_ndarray(tone(0.2)[None], "fltp", "mono")
            samples.sample_rate = RATE
            file.mux(stream.encode(samples))
            file.mux(stream.encode(None))
        with pytest.raises(UserError, match="holds no video"):
            mark(tmp_path / "a.mp4")


class TestDamage:
    RECIPE = Recipe(tuple(range(0, 46 * 40, 40)), image=noise, options=(("g", "10"),))

    SECONDS = {"times": range(100), "last": 1, "options": (("g", "5"),)}  # noqa: RUF012

    def damaged(self, tmp_path: Path, suffix: str, damage: Callable[[bytearray], Any], **change: Any) -> Path:
        path = Recipe(**{**vars(self.RECIPE), **change}).write(tmp_path / f"a{suffix}")
        content = bytearray(path.read_bytes())
        damage(content)
        path.write_bytes(content)
        return path

    def test_frames_after_damage_are_read(self, mark: Marking, tmp_path: Path) -> None:
        def flip(content: bytearray) -> None:
            middle = len(content) // 2
            content[middle : middle + 2000] = bytes(255 - byte for byte in content[middle : middle + 2000])

        path, said = mark(self.damaged(tmp_path, ".mp4", flip))
        result = Result.read(path)
        found = re.search(r"a.mp4 is damaged: (\d+) of about 46 frames could be read", said[0])
        assert found and len(said) == 1 and 40 <= int(found[1]) == len(result.images)
        assert [round(time * 25) for time in result.times[-10:]] == list(range(36, 46))  # at their own times
        another, last = (np.abs(result.images[index].astype(int) - noise(45)).mean() for index in (-2, -1))
        assert last < 0.8 * another

    @pytest.mark.parametrize("seed", range(4))
    def test_bytes_that_are_wrong_within_frames(self, mark: Marking, tmp_path: Path, seed: int) -> None:
        def change(content: bytearray) -> None:
            random = np.random.default_rng(seed)
            for place in random.integers(len(content) // 5, len(content) * 4 // 5, 300):
                content[place] = random.integers(256)

        path, said = mark(self.damaged(tmp_path, ".mp4", change))
        assert len(said) == 1 and "is damaged" in said[0]
        assert len(Result.read(path).images) >= 40

    @pytest.mark.parametrize(
        ("suffix", "change"),
        [
            (".mp4", {"movflags": "faststart"}), (".mkv", {}), (".flv", {}),
            (".avi", {"codec": "mpeg4", "times": range(46), "last": 1, "base": Fraction(1, 25)}),
        ],
    )  # fmt: skip
    def test_the_beginning_of_a_file_that_is_cut(
        self, mark: Marking, tmp_path: Path, suffix: str, change: dict[str, Any]
    ) -> None:
        def cut(content: bytearray) -> None:
            del content[len(content) * 6 // 10 :]

        path, said = mark(self.damaged(tmp_path, suffix, cut, **change))
        found = re.search(r"is damaged: (\d+) of about (\d+) frames could be read", said[0])
        assert found and len(said) == 1
        assert int(found[1]) == len(Result.read(path).images) and 20 <= int(found[1]) <= 30
        assert int(found[2]) == pytest.approx(46, abs=2)

    def test_damage_within_a_transport_stream(self, mark: Marking, tmp_path: Path) -> None:
        def lose(content: bytearray) -> None:
            middle = len(content) // 2 // 188 * 188
            del content[middle : middle + 188 * 5]

        path, said = mark(self.damaged(tmp_path, ".ts", lose))
        assert "is damaged" in said[0] and "with errors" in said[0]
        assert len(Result.read(path).images) >= 44

    @pytest.mark.parametrize(("suffix", "codec"), [(".mkv", "mpeg4"), (".flv", "flv")])
    def test_frames_that_the_reader_skips(self, mark: Marking, tmp_path: Path, suffix: str, codec: str) -> None:
        def wipe(content: bytearray) -> None:
            middle = len(content) // 2
            content[middle : middle + 20_000] = bytes(20_000)

        path, said = mark(self.damaged(tmp_path, suffix, wipe, codec=codec, base=Fraction(1, 25), **self.SECONDS))
        found = re.search(r"is damaged: (\d+) of about (\d+) frames could be read", said[0])
        assert found and int(found[1]) == len(Result.read(path).images) < 100
        assert int(found[2]) == pytest.approx(100, abs=8)  # by their bytes

    def test_whole_files_are_not_called_damaged(self, mark: Marking, tmp_path: Path) -> None:
        trimmed = Recipe(tuple(range(0, 1000, 40)), options=(("bf", "2"),), sound="aac")
        assert mark(trimmed.write(tmp_path / "a.mp4"))[1] == []

    def test_an_edit_that_leaves_frames_out_is_no_damage(self, mark: Marking, tmp_path: Path) -> None:
        path = Recipe(tuple(range(0, 400, 40)), options=(("bf", "0"),)).write(tmp_path / "a.mp4")
        content = bytearray(path.read_bytes())
        edit = content.index(b"elst") + 4 + 8  # version and flags, count; then duration, time
        content[edit : edit + 8] = (200).to_bytes(4, "big") + content[edit + 4 : edit + 8]
        path.write_bytes(content)
        result, said = mark(path)
        assert said == [] and len(Result.read(result).images) == 5


def playlists(folder: Path) -> tuple[str, str]:
    """For HLS and for FFmpeg's concat, both of a file in the folder."""
    inner = Recipe().write(folder / "inner.ts")
    hls = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{inner}\n#EXT-X-ENDLIST\n"
    return hls, "ffconcat version 1.0\nfile inner.ts\n"


class TestSafety:
    def test_a_playlist_opens_no_other_file(self, mark: Marking, tmp_path: Path, config: PredictConfig) -> None:
        hls, concat = playlists(tmp_path)
        for content in (hls, concat):
            for suffix in (".mp4", ".ts", ".mkv"):
                path = tmp_path / f"list{suffix}"
                path.write_text(content)
                with pytest.raises(UserError, match="cannot be read as a video"):
                    mark(path)
        with av.open(str(path)) as file:  # which FFmpeg by itself does
            assert len(list(file.decode(video=0))) == 12
        assert not config.output.exists()

    @pytest.mark.parametrize("kind", ["hls", "concat"])
    def test_not_even_where_playlists_are_allowed(
        self, mark: Marking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
    ) -> None:
        monkeypatch.setattr(video_input, "FORMATS", ("mpegts", "hls", "concat"))
        path = tmp_path / "list.m3u8"
        path.write_text(playlists(tmp_path)[kind == "concat"])
        with av.open(str(path), options={"allowed_extensions": "ALL"}) as file:
            assert len(list(file.decode(video=0))) == 12
        with pytest.raises(UserError):
            mark(path)

    def test_names_with_percent_are_no_patterns(self, mark: Marking, tmp_path: Path) -> None:
        Recipe((0, 40)).write(tmp_path / "a1.mp4")
        with pytest.raises(UserError, match="There is no video"):
            mark(tmp_path / "a%d.mp4")

    def test_results_go_through_no_link(self, mark: Marking, tmp_path: Path, config: PredictConfig) -> None:
        kept = tmp_path / "kept"
        kept.write_text("precious")
        folder = config.output / "cutout"
        folder.mkdir(parents=True)
        result = folder / "result.mp4"
        result.symlink_to(kept)
        video_output.partial_of(result).symlink_to(kept)
        mark(Recipe((0, 40)).write(tmp_path / "a.mp4"))
        assert kept.read_text() == "precious" and not result.is_symlink() and len(Result.read(result).images) == 2
        assert [path.name for path in folder.iterdir()] == ["result.mp4"]

    @pytest.fixture
    def small_disk(self, config: PredictConfig) -> Iterator[Path]:
        config.output.mkdir()
        try:
            command = ["mount", "-t", "tmpfs", "-o", "size=64k", "saliency-gan-test", str(config.output)]
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("only root can mount a file system")
        yield config.output
        subprocess.run(["umount", str(config.output)], check=True)

    def test_a_full_disk_is_said_and_leaves_nothing(self, mark: Marking, tmp_path: Path, small_disk: Path) -> None:
        source = Recipe(tuple(range(0, 2000, 40)), image=noise).write(tmp_path / "a.mp4")
        with pytest.raises(StageError, match="The disk is full"):
            mark(source)
        assert [path for path in small_disk.rglob("*") if path.is_file()] == []

    def test_a_disk_that_is_full_at_the_end(self, mark: Marking, tmp_path: Path, small_disk: Path) -> None:
        source = Recipe((0, 40)).write(tmp_path / "a.mp4")
        (small_disk / "filling").write_bytes(b"x" * 65_536)
        with pytest.raises(StageError, match="The disk is full"):
            mark(source)
        assert [path.name for path in small_disk.rglob("*") if path.is_file()] == ["filling"]
