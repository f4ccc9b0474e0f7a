from collections.abc import Mapping
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

INSTRUCTION_SETS: Final[Mapping[str, Lanes]]

@final
class Lanes:
    def __new__(cls, instruction_set: str) -> Lanes: ...
    def __reduce__(self) -> tuple[type[Lanes], tuple[str]]: ...
    def loop(
        self, value: NDArray[np.float64], cpu_iterations: int, out: NDArray[np.float64]
    ) -> None: ...
    def nested(
        self,
        offset: NDArray[np.int64],
        outer_iterations: int,
        inner_iterations: int,
        out: NDArray[np.int64],
    ) -> None: ...

def warm_up() -> None: ...
def loop(value: NDArray[np.float64], cpu_iterations: int, out: NDArray[np.float64]) -> None: ...
def nested(
    offset: NDArray[np.int64], outer_iterations: int, inner_iterations: int, out: NDArray[np.int64]
) -> None: ...
