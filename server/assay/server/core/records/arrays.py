"""Arrays and scalars by their meaning."""

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


RowArray = npt.NDArray[np.int64]


MaskArray = npt.NDArray[np.bool_]


Scalar = str | float | int | bool
