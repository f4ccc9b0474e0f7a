from typing import Final

import numpy as np
from numpy.typing import NDArray

INSTRUCTION_SET: Final[str | None]
RELEASES_GIL: Final[bool]

def warm_up() -> None: ...
def loop(value: NDArray[np.float64], cpu_iterations: int, out: NDArray[np.float64]) -> None: ...
def nested(
    offset: NDArray[np.int64], outer_iterations: int, inner_iterations: int, out: NDArray[np.int64]
) -> None: ...
