"""Reads videos: upright frames with their times, sound, and reports about missing parts."""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
from av.codec.context import Flags
from av.container import InputContainer
from av.stream import Disposition
from av.video.reformatter import Colorspace

from saliency_gan.errors import UserError
from saliency_gan.images import ImageArray
from saliency_gan.images.reading import MAX_PIXELS
from saliency_gan.prediction.jobs import BATCH_PIXELS
from saliency_gan.prediction.video_sound import Clock, SoundPiece, SoundTrack, can_be_read, time_base_of

FORMATS = ("mov", "avi", "matroska", "mpegts", "mpeg", "mpegvideo", "m4v", "asf", "flv")
"""Formats in which FFmpeg may read a file, whatever its suffix. Playlists are left out, because they name other
files."""

HONEST_DURATIONS = ("matroska,webm", "flv", "asf")
"""Formats whose header gives the full duration, even if the file is cut off."""

CLOSE_PACKED = ("matroska,webm", "flv")
"""Formats in which packets follow each other without gaps."""

MOST_BETWEEN = 2000
"""A gap of more bytes than this between two packets of these formats means that data was skipped."""

EARLY = 0.5
"""A file may end this many seconds earlier than its header says."""

MOST_REFUSED = 100
"""After this many errors in a row, the rest of a file is not read."""

MOST_SOUND = 1000
"""Largest number of sound packets in a batch, after the first frame."""

UNSPECIFIED = 2
"""The colour matrix of a frame that does not specify it."""

HD_HEIGHT = 720
"""Such frames with at least this many rows are read as BT.709, as players do; smaller ones as BT.601."""


class Frame(NamedTuple):
    """A picture of a video.

    Attributes:
        image: RGB, upright, of one size throughout the video.
        start: When it is shown, in the video's time base; later than that of the frame before.
        duration: How long it is shown; a guess if the file does not say.
        pixel_aspect: Width of a pixel divided by its height.
    """

    image: ImageArray
    start: int
    duration: int
    pixel_aspect: Fraction


class Batch(NamedTuple):
    """Frames and the sound between them; later batches may have only sound."""

    frames: list[Frame]
    sound: list[SoundPiece]


def _at_once(size: int, frame: Frame) -> int:
    height, width = frame.image.shape[:2]
    return min(size, max(1, BATCH_PIXELS // (height * width)))


class VideoInput:
    """A video that is read from its beginning to its end; damaged parts are skipped.

    Attributes:
        time_base: Unit of the frames' times in seconds.
        sounds: Its sound tracks.
        expected: Expected number of frames; None if it is unknown.

    Args:
        path: Its name in messages.
        container: The opened file.

    Raises:
        UserError: If it holds no video that can be decoded, or its frames have more than MAX_PIXELS.
    """

    def __init__(self, path: Path, container: InputContainer) -> None:
        self._path, self._container = path, container
        stream = container.streams.best("video")
        if not isinstance(stream, av.VideoStream) or stream.disposition & Disposition.attached_pic:
            raise UserError(f"{path} holds no video: leave it out.")
        if stream.codec_context is None:
            raise UserError(f"{path} holds a video in a format that cannot be decoded: convert it to mp4 first.")
        if stream.codec_context.width * stream.codec_context.height > MAX_PIXELS:
            raise UserError(f"{path} has frames of more than the {MAX_PIXELS:,} pixels allowed: shrink it first.")
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        stream.codec_context.flags |= Flags.output_corrupt
        stream.codec_context.thread_type = "NONE"  # threads that share a frame lose its error flags
        self._stream = stream
        self.time_base = time_base_of(stream)
        origin = Fraction(container.start_time or 0, av.time_base)
        rate = stream.average_rate or stream.guessed_rate
        self._clock = Clock(math.floor(origin / self.time_base), round(1 / (rate * self.time_base)) if rate else 1)
        self._tracks = {
            audio.index: SoundTrack(audio, origin) for audio in container.streams.audio if can_be_read(audio)
        }
        self._duration = Fraction(container.duration or 0, av.time_base)
        # An edit list may leave frames out, so the index of an mp4 file is used, not its header.
        self._promised = len(stream.index_entries) if "mov" in container.format.name else stream.frames
        self.expected = self._promised or (round(self._duration * rate) if rate else 0) or None
        self._packets_read = self._read = self._faulty = self._lost = 0
        self._bytes = self._skipped = 0
        self._place: tuple[int, int] | None = None  # start and end of the last packet
        self._end = Fraction(0)
        self._size: tuple[int, ...] | None = None

    @property
    def sounds(self) -> list[SoundTrack]:
        """Sound tracks that can be read."""
        return list(self._tracks.values())

    def batches(self, size: int) -> Iterator[Batch]:
        """Yields the file's frames and its sound; the first batch has a frame.

        Args:
            size: Largest number of frames per batch. Large frames are fewer, so that a batch has at most BATCH_PIXELS
                pixels, or one frame.
        """
        frames: list[Frame] = []
        sound: list[SoundPiece] = []
        for piece in self._pieces():
            if isinstance(piece, Frame):
                frames.append(piece)
            else:
                sound.append(piece)
            if (frames and len(frames) == _at_once(size, frames[0])) or (self._read and len(sound) >= MOST_SOUND):
                yield Batch(frames, sound)
                frames, sound = [], []
        if self._read and (frames or sound):
            yield Batch(frames, sound)

    def problems(self) -> list[str]:
        """Returns one sentence for each thing that the results lack; call it after the last batch."""
        found = []
        expected = self._read + self._lost
        if self._skipped:
            expected += max(1, round(self._read * self._skipped / self._bytes))
        if self._ends_early():
            expected = max(expected, round(self._read * self._duration / self._end))
        if self._faulty or expected > self._read:
            faulty = f", {self._faulty} of them with errors" if self._faulty else ""
            found.append(
                f"{self._path} is damaged: {self._read} of about {expected} frames could be read{faulty},"
                " and the results hold these."
            )
        if len(self._tracks) < len(self._container.streams.audio):
            found.append(f"{self._path} has sound that cannot be decoded, and the results are without it.")
        return found

    def _ends_early(self) -> bool:
        return self._container.format.name in HONEST_DURATIONS and 0 < self._end < self._duration - Fraction(EARLY)

    def _pieces(self) -> Iterator[Frame | SoundPiece]:
        for packet in self._packets():
            if packet.stream_index == self._stream.index:
                yield from self._frames(packet)
            elif packet.stream_index in self._tracks:
                yield from self._tracks[packet.stream_index].pieces(packet)
        yield from self._frames(None)
        for track in self._tracks.values():
            yield from track.pieces(None)

    def _packets(self) -> "Iterator[av.Packet[Any]]":
        refused = 0
        while refused < MOST_REFUSED:
            try:
                for packet in self._container.demux():
                    refused = 0
                    self._note(packet)
                    if packet.size:  # an empty one would end the decoding
                        yield packet
                break
            except (av.FFmpegError, OSError):
                refused += 1
        self._lost += max(0, self._promised - self._packets_read)

    def _note(self, packet: "av.Packet[Any]") -> None:
        if packet.dts is None and not packet.size:  # not a packet of the file but its end marker
            return
        if packet.stream_index == self._stream.index:
            self._packets_read += 1
        self._bytes += packet.size
        if packet.pos is not None and self._container.format.name in CLOSE_PACKED:
            self._note_place(packet.pos, packet.size)
        if packet.pts is not None:
            self._end = max(self._end, (packet.pts + (packet.duration or 0)) * packet.time_base)

    def _note_place(self, position: int, size: int) -> None:
        """Counts the bytes outside of packets, which the reader skipped because it could not read them."""
        start, end = self._place or (position, position)
        if position == start:  # several packets in one block
            self._place = position, end + size
            return
        if position - end > MOST_BETWEEN:
            self._skipped += position - end
        self._place = position, max(end, position + size)

    def _frames(self, packet: "av.Packet[Any] | None") -> Iterator[Frame]:
        """Yields the frames that a packet completes; None marks the end. A packet that the decoder refuses counts as a
        lost frame."""
        try:
            decoded = self._stream.codec_context.decode(packet)
            images = [_upright(frame) for frame in decoded]
        except (av.FFmpegError, ValueError):
            self._lost += 1
            return
        self._faulty += any(frame.is_corrupt for frame in decoded) or (packet is not None and packet.is_corrupt)
        for frame, (image, turned) in zip(decoded, images, strict=True):
            self._read += 1
            start = self._clock.tell(frame.pts, frame.duration)
            yield Frame(self._fit(image), start, self._clock.step, self._pixel_aspect(turned))

    def _fit(self, image: ImageArray) -> ImageArray:
        """Resizes a frame if its size is not that of the first one."""
        self._size = self._size or image.shape[:2]
        if image.shape[:2] == self._size:
            return image
        height, width = self._size
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]

    def _pixel_aspect(self, turned: bool) -> Fraction:
        aspect = self._stream.sample_aspect_ratio or Fraction(1)
        return 1 / aspect if turned else aspect


@contextmanager
def opened(path: Path) -> Iterator[VideoInput]:
    """Opens a video; no other file is opened, even if the video refers to one.

    Raises:
        UserError: If it is missing, or not a readable video.
    """
    with ExitStack() as stack:
        try:
            if not path.is_file():
                raise UserError(f"There is no video {path}.")
            file = stack.enter_context(open(path, "rb"))
            container = stack.enter_context(
                av.open(
                    file,  # FFmpeg may read a name as an address, or as many files if it contains a %
                    "r",
                    options={
                        "format_whitelist": ",".join(FORMATS),
                        "protocol_whitelist": "none",
                        "max_pixels": str(MAX_PIXELS),
                    },
                    metadata_errors="replace",
                )
            )
        except (OSError, ValueError, av.FFmpegError):
            raise UserError(f"{path} cannot be read as a video: it is empty, damaged or of no known format.") from None
        yield VideoInput(path, container)


def _upright(frame: av.VideoFrame) -> tuple[ImageArray, bool]:
    """The frame as RGB, rotated and mirrored as the file says, and whether rows became columns."""
    matrix = Colorspace.ITU709 if frame.colorspace == UNSPECIFIED and frame.height >= HD_HEIGHT else None
    image: Any = frame.to_ndarray(format="rgb24", src_colorspace=matrix)
    (right, down), (right_of_rows, down_of_rows) = _directions(frame)
    turned = abs(down) > abs(right)
    if turned:
        image, right, down_of_rows = image.transpose(1, 0, 2), right_of_rows, down
    if right < 0:
        image = image[:, ::-1]
    if down_of_rows < 0:
        image = image[::-1]
    return np.ascontiguousarray(image), turned


def _directions(frame: av.VideoFrame) -> Any:
    """Screen directions of a step to the right and of a step down in the frame: [[right, down], [right, down]]."""
    try:
        beside: Any = frame.side_data
        return np.frombuffer(beside["DISPLAYMATRIX"], np.int32).reshape(3, 3)[:2, :2].tolist()
    except KeyError:
        return ((1, 0), (0, 1))
    except ValueError:  # PyAV does not know some other side data, and then gives only the angle
        angle = math.radians(frame.rotation)
        return ((math.cos(angle), -math.sin(angle)), (math.sin(angle), math.cos(angle)))
