"""Images: reading and writing files, and what their arrays and tensors mean."""

import numpy as np
from numpy.typing import NDArray

ImageArray = NDArray[np.uint8]
"""RGB, uint8 [H, W, 3]."""
