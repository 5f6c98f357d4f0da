"""Sound of videos, and the times of sound and frames."""

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import av

COPIED_SOUND = ("aac", "mp3", "mp2", "ac3", "eac3", "alac", "flac", "opus")
"""Codecs of sound that players know in an mp4 file; other sound is encoded anew."""


class Clock:
    """Makes the times of a stream begin near 0 and only go forward.

    Where a time is missing or not after the last one, it follows the last one, and so do those after it.

    Args:
        origin: The file's beginning in the stream's time base.
        step: Time between two frames or packets where nothing else says it.
    """

    def __init__(self, origin: int, step: int) -> None:
        self._shift = -origin
        self._step = max(1, step)
        self._last: int | None = None

    def tell(self, time: int | None, duration: int | None) -> int:
        """The next time."""
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
    """Some sound of a track: a packet that is to be copied, or decoded samples."""

    track: "SoundTrack"
    content: "av.Packet[Any] | av.AudioFrame"


class SoundTrack:
    """A track of sound: packets as they are where an mp4 file can hold them, else decoded.

    Args:
        stream: Whose packets they are.
        origin: The file's beginning in seconds.
    """

    def __init__(self, stream: av.AudioStream, origin: Fraction) -> None:
        self.stream = stream
        self.is_copied = stream.codec_context.codec.canonical_name in COPIED_SOUND
        self._time_base = time_base_of(stream)
        self._clock = Clock(math.floor(origin / self._time_base), 1)

    def pieces(self, packet: "av.Packet[Any] | None") -> Iterator[SoundPiece]:
        """What a packet holds; None is the end. A packet that cannot be decoded holds nothing."""
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
    """Whether there is a decoder for a stream of sound, and the file says what it needs."""
    context = stream.codec_context
    return context is not None and context.sample_rate > 0 and context.layout.nb_channels > 0


def time_base_of(stream: Any) -> Fraction:
    """Unit of a stream's times in seconds."""
    return stream.time_base or Fraction(1, av.time_base)
