"""First part of the key of each of stage 1's random streams, so that none of them coincide."""

STREAM_INIT, STREAM_STEP, STREAM_RCA, STREAM_BACKGROUND, STREAM_OPTIMISE, STREAM_GALLERY, STREAM_WALK, STREAM_EIGEN = (
    range(8)
)
