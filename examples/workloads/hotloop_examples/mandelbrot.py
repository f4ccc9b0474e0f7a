"""The Mandelbrot set: how many turns a point takes to escape."""

import hotloop


@hotloop.workload(
    columns={"real": hotloop.Float(-2.0, 0.5), "imaginary": hotloop.Float(-1.25, 1.25)},
    parameters={"max_turns": hotloop.Integer(1, 1_000_000, default=1_000)},
    outputs={"turns": hotloop.Integer(0, 1_000_000)},
    cost="data",
)
def mandelbrot(real: float, imaginary: float, max_turns: int) -> int:
    """Turns of z² + c until |z| exceeds 2, or `max_turns` for a point that stays."""
    x, y = 0.0, 0.0
    for turn in range(max_turns):
        xx, yy = x * x, y * y
        if xx + yy > 4.0:
            return turn
        y = 2.0 * x * y + imaginary
        x = xx - yy + real
    return max_turns
