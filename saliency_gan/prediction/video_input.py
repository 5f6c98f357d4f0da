"""Videos that are read: upright frames with their times, sound, and what is missing of both."""

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
from saliency_gan.prediction.video_sound import Clock, SoundPiece, SoundTrack, can_be_read, time_base_of

FORMATS = ("mov", "avi", "matroska", "mpegts", "mpeg", "mpegvideo", "m4v", "asf", "flv")
"""What FFmpeg is allowed to take a file for, whatever its suffix; playlists, which name other files, are left out."""

HONEST_DURATIONS = ("matroska,webm", "flv", "asf")
"""Formats whose header says how long the file is, whatever is left of it."""

CLOSE_PACKED = ("matroska,webm", "flv")
"""Formats in which packet follows packet."""

MOST_BETWEEN = 2000
"""Bytes between two packets of theirs that are not yet a sign of something skipped."""

EARLY = 0.5
"""Seconds that a file may end before its header says so."""

MOST_REFUSED = 100
"""Errors in a row after which the rest of a file is given up."""

MOST_SOUND = 1000
"""Packets of sound that are held at once after the first frame."""

UNSPECIFIED = 2
"""Matrix of colours of a frame that does not say which it is."""

HD_HEIGHT = 720
"""Rows from which such a frame is taken to be BT.709, as players do; smaller ones are BT.601."""


class Frame(NamedTuple):
    """A picture of a video.

    Attributes:
        image: RGB, upright, of one size throughout the video.
        start: When it is shown, in the video's time base; later than that of the frame before.
        duration: How long, where the file says so, else a guess.
        pixel_aspect: Width of a pixel by its height.
    """

    image: ImageArray
    start: int
    duration: int
    pixel_aspect: Fraction


class Batch(NamedTuple):
    """Frames and the sound beside them; later batches may hold sound alone."""

    frames: list[Frame]
    sound: list[SoundPiece]


class VideoInput:
    """A video that is read from its beginning to its end, past what is damaged.

    Attributes:
        time_base: Unit of the frames' times in seconds.
        sounds: Its tracks of sound.
        expected: How many frames there should be; None if nobody knows.

    Args:
        path: What messages call it.
        container: The opened file.

    Raises:
        UserError: If it holds no video that can be decoded, or frames of more than MAX_PIXELS.
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
        stream.codec_context.thread_type = "NONE"  # threads that share a frame lose what it says of damage
        self._stream = stream
        self.time_base = time_base_of(stream)
        origin = Fraction(container.start_time or 0, av.time_base)
        rate = stream.average_rate or stream.guessed_rate
        self._clock = Clock(math.floor(origin / self.time_base), round(1 / (rate * self.time_base)) if rate else 1)
        self._tracks = {
            audio.index: SoundTrack(audio, origin) for audio in container.streams.audio if can_be_read(audio)
        }
        self._duration = Fraction(container.duration or 0, av.time_base)
        # An edit of the film may leave frames out, so an mp4 file's index counts and not its header.
        self._promised = len(stream.index_entries) if "mov" in container.format.name else stream.frames
        self.expected = self._promised or (round(self._duration * rate) if rate else 0) or None
        self._packets_read = self._read = self._faulty = self._lost = 0
        self._bytes = self._skipped = 0
        self._place: tuple[int, int] | None = None  # where the last packet is, and where it ends
        self._end = Fraction(0)
        self._size: tuple[int, ...] | None = None

    @property
    def sounds(self) -> list[SoundTrack]:
        """Tracks of sound that can be read."""
        return list(self._tracks.values())

    def batches(self, size: int) -> Iterator[Batch]:
        """The file's frames, at most `size` at once, and its sound; the first batch has a frame."""
        frames: list[Frame] = []
        sound: list[SoundPiece] = []
        for piece in self._pieces():
            if isinstance(piece, Frame):
                frames.append(piece)
            else:
                sound.append(piece)
            if len(frames) == size or (self._read and len(sound) >= MOST_SOUND):
                yield Batch(frames, sound)
                frames, sound = [], []
        if self._read and (frames or sound):
            yield Batch(frames, sound)

    def problems(self) -> list[str]:
        """One sentence for each thing that the results lack, after the last batch."""
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
        if packet.dts is None and not packet.size:  # no packet of the file but the sign that it ends
            return
        if packet.stream_index == self._stream.index:
            self._packets_read += 1
        self._bytes += packet.size
        if packet.pos is not None and self._container.format.name in CLOSE_PACKED:
            self._note_place(packet.pos, packet.size)
        if packet.pts is not None:
            self._end = max(self._end, (packet.pts + (packet.duration or 0)) * packet.time_base)

    def _note_place(self, position: int, size: int) -> None:
        """Counts the bytes that are in no packet because the reader found no sense in them."""
        start, end = self._place or (position, position)
        if position == start:  # several packets in one block
            self._place = position, end + size
            return
        if position - end > MOST_BETWEEN:
            self._skipped += position - end
        self._place = position, max(end, position + size)

    def _frames(self, packet: "av.Packet[Any] | None") -> Iterator[Frame]:
        """What a packet completes; None is the end. A packet that the decoder refuses counts as a lost frame."""
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
        """Scales a frame whose size is not that of the first one."""
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
    """Opens a video; whatever the file says, nothing else is opened.

    Raises:
        UserError: If it is missing, or no video that can be read.
    """
    with ExitStack() as stack:
        try:
            if not path.is_file():
                raise UserError(f"There is no video {path}.")
            file = stack.enter_context(open(path, "rb"))
            container = stack.enter_context(
                av.open(
                    file,  # a name would be taken for an address, or for many files where it holds a %
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
    """The frame as RGB, turned and mirrored as the file asks, and whether rows became columns."""
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
    """Where a step to the right, and one down, in the frame lead to on the screen: [[right, down], [right, down]]."""
    try:
        beside: Any = frame.side_data
        return np.frombuffer(beside["DISPLAYMATRIX"], np.int32).reshape(3, 3)[:2, :2].tolist()
    except KeyError:
        return ((1, 0), (0, 1))
    except ValueError:  # something else beside the frame is unknown to PyAV, which then tells no more than the angle
        angle = math.radians(frame.rotation)
        return ((math.cos(angle), -math.sin(angle)), (math.sin(angle), math.cos(angle)))
