"""First part of the key of each of stage 3's random streams, apart from those of the other stages."""

STREAM_SPLIT, STREAM_SAMPLE, STREAM_STATISTICS, STREAM_PHOTOS = range(30, 34)
