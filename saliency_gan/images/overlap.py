"""How much two masks overlap."""

import numpy as np
from numpy.typing import NDArray

AnyMask = NDArray[np.bool_] | NDArray[np.uint8]


def intersection_over_union(first: AnyMask, second: AnyMask) -> float:
    """IoU of two masks of the same size, bool or uint8 of 0 and 1; 1 if both are empty."""
    union = int(np.count_nonzero(first | second))
    return int(np.count_nonzero(first & second)) / union if union else 1.0
