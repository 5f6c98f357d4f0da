"""Writes videos: mp4 files with every frame at its time, and with sound."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import av
import cv2
import numpy as np
from av.codec.context import Flags
from av.video.reformatter import ColorRange
from numpy.typing import NDArray

from saliency_gan.compute.processes import cores, local_world_size
from saliency_gan.errors import UserError
from saliency_gan.prediction.video_sound import SoundPiece, SoundTrack
from saliency_gan.storage.files import disk_error, partial_of

# Without B-frames, players show every frame at exactly its time. Without lookahead, an encoder holds few frames, which
# take 12 MB each at 4K.
ENCODERS = {
    "libx264": {"preset": "superfast", "crf": "20", "bf": "0", "rc-lookahead": "0"},
    "mpeg4": {"flags": "+qscale", "global_quality": "354", "bf": "0"},
}
"""Encoders, with settings that keep results close to the source; the first one that FFmpeg has is used."""

FINEST_TIME = {"mpeg4": 65_535}
"""Largest number of time units per second, for encoders that have a limit."""

BT_601 = 6
"""H.264's number for the colour matrix that OpenCV converts with."""

GREY = (16 + np.arange(256) * (219 / 255)).round().astype(np.uint8)
"""Luma of every grey value."""

NO_COLOUR = 128

MOST_THREADS = 4
"""Largest number of threads of an encoder; each one holds frames in memory."""

AAC_RATES = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000)
AAC_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
"""By the number of channels; other numbers become stereo."""


class VideoFile:
    """An mp4 file that gets its name once it is complete. Use it as a context manager.

    Args:
        path: The file; its folder is created.
        time_base: Unit of the frames' times in seconds.
        height: Rows of the frames; an odd number is padded by one row, because only even sizes play everywhere.
        width: Columns of the frames, likewise.
        pixel_aspect: Width of a pixel divided by its height.
        sounds: Its sound tracks.

    Raises:
        UserError: If no encoder takes frames of this size.
        StageError: If the file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        time_base: Fraction,
        height: int,
        width: int,
        pixel_aspect: Fraction = Fraction(1),
        sounds: Sequence[SoundTrack] = (),
    ) -> None:
        self._path, self._partial, self._time_base = path, partial_of(path), time_base
        self._bottom, self._right = height % 2, width % 2
        with self._writing():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._partial.unlink(missing_ok=True)
            self._file = open(self._partial, "xb")  # "x" does not follow links
        try:
            with self._writing():
                self._container = av.open(self._file, "w", format="mp4")
                self._video = self._add_video(height + self._bottom, width + self._right, pixel_aspect)
                self._sounds = {track.stream.index: self._add_sound(track) for track in sounds}
                self._container.start_encoding()
        except BaseException:
            self._discard()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._discard()

    def add(self, frame: NDArray[np.uint8] | NDArray[np.uint16], start: int, duration: int) -> None:
        """Appends a frame.

        Args:
            frame: uint8 [H, W] or RGB [H, W, 3].
            start: When it is shown, after the frame before.
            duration: How long it is shown, if it is the last one.
        """
        even: Any = cv2.copyMakeBorder(frame, 0, self._bottom, 0, self._right, cv2.BORDER_REPLICATE)
        picture = av.VideoFrame.from_ndarray(_yuv(even), "yuv420p")
        picture.pts, picture.duration, picture.time_base = start, duration, self._time_base
        with self._writing():
            self._container.mux(self._video.encode(picture))

    def add_sound(self, piece: SoundPiece) -> None:
        """Appends sound of a track; a damaged packet that mp4 cannot hold is left out."""
        stream = self._sounds[piece.track.stream.index]
        with self._writing(), suppress(av.InvalidDataError, av.ArgumentError):
            if isinstance(piece.content, av.Packet):
                piece.content.stream = stream
                self._container.mux(piece.content)
            else:
                self._container.mux(stream.encode(piece.content))

    def keep(self) -> None:
        """Completes the file and gives it its name.

        Raises:
            StageError: If the file cannot be written completely.
        """
        with self._writing():
            self._container.mux(self._video.encode(None))
            for stream in self._encoded_sounds():
                self._container.mux(stream.encode(None))
            self._container.close()
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._partial.replace(self._path)

    def _add_video(self, height: int, width: int, pixel_aspect: Fraction) -> av.VideoStream:
        name = next(name for name in ENCODERS if name in av.codecs_available)
        stream: Any = self._container.add_stream(name, options=ENCODERS[name])
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.time_base = max(self._time_base, Fraction(1, FINEST_TIME.get(name, 2**31 - 1)))
        context.sample_aspect_ratio = pixel_aspect
        context.colorspace, context.color_range = BT_601, ColorRange.MPEG
        context.flags |= Flags.frame_duration
        context.thread_count = max(1, min(MOST_THREADS, cores() // local_world_size()))
        stream.time_base = context.time_base
        return stream

    def _add_sound(self, track: SoundTrack) -> Any:
        if track.is_copied:
            return self._container.add_stream_from_template(track.stream)
        context = track.stream.codec_context
        rate = min(AAC_RATES, key=lambda possible: abs(possible - context.sample_rate))
        stream = self._container.add_stream("aac", rate=rate)
        stream.codec_context.layout = AAC_LAYOUTS.get(context.layout.nb_channels, "stereo")
        return stream

    def _encoded_sounds(self) -> Iterator[Any]:
        return (stream for stream in self._sounds.values() if stream.codec_context.is_encoder)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turns errors of writing into one sentence."""
        try:
            yield
        except OSError as error:
            raise disk_error(self._path, error) from None
        except av.FFmpegError as error:
            raise UserError(
                f"{self._path} cannot be written as mp4 ({error.strerror}): convert the video first, to at most 16,384"
                " pixels a side."
            ) from None

    def _discard(self) -> None:
        """Closes open files and removes the partial file."""
        with suppress(OSError):
            self._file.close()
        with suppress(OSError, av.FFmpegError, AttributeError):
            self._container.close()  # it writes no end to a closed file
        with suppress(OSError):
            self._partial.unlink(missing_ok=True)


def _yuv(image: Any) -> NDArray[np.uint8]:
    """Converts grey or RGB with even sides to YUV 4:2:0: a plane of luma and, below it, two planes of colour at half
    the size."""
    if image.ndim == 3:
        return cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420)
    height, width = image.shape
    planes = np.full((height * 3 // 2, width), NO_COLOUR, np.uint8)
    planes[:height] = cv2.LUT(image, GREY)
    return planes
