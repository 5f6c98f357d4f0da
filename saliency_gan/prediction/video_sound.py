"""Sound of videos, and the times of sound and frames."""

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import av

COPIED_SOUND = ("aac", "mp3", "mp2", "ac3", "eac3", "alac", "flac", "opus")
"""Sound codecs that players support in mp4 files; other sound is encoded again."""


class Clock:
    """Makes the times of a stream start near 0 and always increase.

    A time that is missing or not later than the last one is replaced by the last one plus a step. In the second case
    all later times are shifted, too.

    Args:
        origin: Start time of the file in the stream's time base.
        step: Time between two frames or packets if nothing else gives it.
    """

    def __init__(self, origin: int, step: int) -> None:
        self._shift = -origin
        self._step = max(1, step)
        self._last: int | None = None

    def tell(self, time: int | None, duration: int | None) -> int:
        """Returns the next corrected time."""
        following = 0 if self._last is None else self._last + self._step
        told = following if time is None else time + self._shift
        if self._last is not None and told <= self._last:
            self._shift += following - told
            told = following
        if duration:
            self._step = duration
        elif self._last is not None:
            self._step = told - self._last
        self._last = told
        return told

    @property
    def step(self) -> int:
        """How long the last frame or packet takes."""
        return self._step


class SoundPiece(NamedTuple):
    """Sound of a track: a packet to copy, or decoded samples."""

    track: "SoundTrack"
    content: "av.Packet[Any] | av.AudioFrame"


class SoundTrack:
    """A sound track: packets are copied if an mp4 file can hold them, else decoded.

    Args:
        stream: The stream of the packets.
        origin: Start time of the file in seconds.
    """

    def __init__(self, stream: av.AudioStream, origin: Fraction) -> None:
        self.stream = stream
        self.is_copied = stream.codec_context.codec.canonical_name in COPIED_SOUND
        self._time_base = time_base_of(stream)
        self._clock = Clock(math.floor(origin / self._time_base), 1)

    def pieces(self, packet: "av.Packet[Any] | None") -> Iterator[SoundPiece]:
        """Yields the sound of a packet; None marks the end. A packet that cannot be decoded gives nothing."""
        if not self.is_copied:
            yield from self._decoded(packet)
        elif packet is not None:
            packet.pts = packet.dts = self._clock.tell(packet.pts, packet.duration)
            yield SoundPiece(self, packet)

    def _decoded(self, packet: "av.Packet[Any] | None") -> Iterator[SoundPiece]:
        try:
            frames = self.stream.codec_context.decode(packet)
        except av.FFmpegError:
            return
        for frame in frames:
            frame.pts, frame.time_base = self._clock.tell(frame.pts, frame.duration), self._time_base
            yield SoundPiece(self, frame)


def can_be_read(stream: av.AudioStream) -> bool:
    """Whether a sound stream has a decoder, and the file says what the decoder needs."""
    context = stream.codec_context
    return context is not None and context.sample_rate > 0 and context.layout.nb_channels > 0


def time_base_of(stream: Any) -> Fraction:
    """Unit of a stream's times in seconds."""
    return stream.time_base or Fraction(1, av.time_base)
