"""Workloads on floats: iterations, motion, special values."""

from __future__ import annotations

from typing import Final

from tests.check.bases import Base, Slip

NEWTON_ROOT: Final = Base(
    "newton_root",
    "a float 0 1000000",
    "root float; rounds int16",
    """
    root = 1.0
    if a > 1.0:
        root = a
    rounds = 0
    while rounds < limit:
        better = 0.5 * (root + a / root)
        rounds += 1
        moved = abs(better - root)
        root = better
        if moved <= tolerance * better:
            break
    """,
    parameters="tolerance float 1e-14 0.001 =1e-10; limit int 1 60 =40",
    cost="data",
    slips=(
        Slip("value", "if a > 1.0:", "if a >= 0.0:\n        root = a + 1.0\n    if a > 3000.0:",
             "starts elsewhere for small numbers"),
        Slip("value", "moved <= tolerance * better", "moved <= tolerance",
             "compares the absolute change with the tolerance"),
        Slip("precision", "0.5 * (root + a / root)", "root - 0.5 * (root - a / root)",
             "rounds the step of Newton otherwise"),
        Slip("precision", "moved <= tolerance * better", "moved <= 1e-7 * better",
             "stops at a coarser tolerance"),
        Slip("domain", "root = 1.0\n    if a > 1.0:\n        root = a", "root = a",
             "divides zero by zero where a is 0"),
    ),
)  # fmt: skip

PHASE: Final = Base(
    "phase",
    "x float -1 1; y float -1 1",
    "angle float ulp=2; quadrant int8; radius float",
    """
    angle = math.atan2(y, x)
    quadrant = 0
    if math.copysign(1.0, x) < 0.0:
        quadrant += 1
    if math.copysign(1.0, y) < 0.0:
        quadrant += 2
    radius = math.sqrt(x * x + y * y)
    """,
    slips=(
        Slip("value", "math.copysign(1.0, x) < 0.0", "x < 0.0", "takes -0 for positive"),
        Slip("value", "math.copysign(1.0, y) < 0.0", "y <= 0.0", "takes 0 for negative"),
        Slip("value", "math.atan2(y, x)", "math.atan2(y + 0.0, x)", "loses the sign of zero"),
        Slip("precision", "math.sqrt(x * x + y * y)", "math.hypot(x, y)",
             "rounds the radius otherwise"),
        Slip("precision", "math.atan2(y, x)", "math.atan2(float(np.float32(y)), x)",
             "rounds a coordinate to float32"),
        Slip("domain", "math.atan2(y, x)",
             "math.atan(y / x) + (0.0 if x > 0.0 else math.copysign(math.pi, y))",
             "divides by a coordinate that may be zero"),
    ),
)  # fmt: skip

DAMPED: Final = Base(
    "damped",
    "time float 0 20; decay float 0 1; rate float 0 10",
    "displacement float ulp=4; envelope float ulp=4",
    """
    envelope = amplitude * math.exp(-decay * time)
    displacement = envelope * (1.0 - rate * time * 0.05)
    """,
    parameters="amplitude float 0.1 10 =2",
    numpy="""
    envelope = amplitude * np.exp(-decay * time)
    displacement = envelope * (1.0 - rate * time * 0.05)
    """,
    slips=(
        Slip("value", "math.exp(-decay * time)", "math.exp(-decay * min(time, 19.8))",
             "stops the clock just before the end"),
        Slip("value", "rate * time * 0.05", "rate * time / 21.0", "uses another period"),
        Slip("precision", "math.exp(-decay * time)",
             "(1.0 - decay * time / 1073741824.0) ** 1073741824.0",
             "approximates the exponential by a power"),
        Slip("precision", "math.exp(-decay * time)",
             "math.exp(-float(np.float32(decay * time)))", "rounds the exponent to float32"),
    ),
)  # fmt: skip

ESCAPE_TIME: Final = Base(
    "escape_time",
    "cx float -2 0.6; cy float -1.2 1.2",
    "rounds int32; radius float",
    """
    x = 0.0
    y = 0.0
    rounds = 0
    while rounds < limit and x * x + y * y <= 4.0:
        t = x * x - y * y + cx
        y = 2.0 * x * y + cy
        x = t
        rounds += 1
    radius = x * x + y * y
    """,
    parameters="limit int 1 2000 =140",
    cost="data",
    slips=(
        Slip("value", "<= 4.0", "<= 4.05", "lets points escape later"),
        Slip("value", "rounds < limit", "rounds < limit - 1", "does one round too few"),
        Slip("precision", "x * x - y * y + cx", "(x - y) * (x + y) + cx", "factors a difference"),
        Slip("precision", "2.0 * x * y + cy", "x * (2.0 * y) + cy + 1.0 - 1.0",
             "adds and subtracts one"),
        Slip("integer", "radius = ", "rounds = int(np.int8(rounds))\n    radius = ",
             "counts in 8 bits"),
    ),
)  # fmt: skip

COMPOUND: Final = Base(
    "compound",
    "amount float32 0 10000 sample=_amounts; months int16 0 360; fixed bool",
    "balance float; interest float32",
    """
    balance = amount * 1.0
    if method == "monthly":
        for k in range(months):
            balance = balance * (1.0 + rate / 12.0) - fee
    else:
        for k in range(months // 12):
            balance = balance * (1.0 + rate)
    if fixed:
        balance = balance - 2.0 * fee
    interest = balance - amount
    """,
    parameters="rate float 0 0.2 =0.05; fee float 0 5 =0.25; method choice monthly yearly",
    cost="data",
    header="""
    def _amounts(item_ids):
        return (item_ids * 7919 % 1000003 / 100.0003).astype(np.float32)
    """,
    slips=(
        Slip("value", "months // 12", "(months + 11) // 12", "counts started years as full ones"),
        Slip("value", "if fixed:", "if fixed and months < 355:",
             "forgets the fee of long fixed deposits"),
        Slip("precision", "balance * (1.0 + rate / 12.0) - fee",
             "balance + balance * (rate / 12.0) - fee", "adds interest in another form"),
        Slip("precision", "balance = amount * 1.0", "balance = amount * 1.0 + 1e-9",
             "starts a little too high"),
        Slip("integer", "for k in range(months):", "for k in range(int(np.int8(months))):",
             "counts the months in 8 bits"),
    ),
)  # fmt: skip

PENDULUM: Final = Base(
    "pendulum",
    "angle float -3 3; speed float -2 2",
    "position float; energy float",
    """
    position = angle
    v = speed
    for k in range(steps):
        v = v - 0.01 * math.sin(position)
        position = position + 0.01 * v
    energy = 0.5 * v * v - math.cos(position)
    """,
    parameters="steps int 1 5000 =600",
    cost={"steps": "steps", "item": "1"},
    slips=(
        Slip("value", "range(steps)", "range(steps - steps // 64)", "stops some steps early"),
        Slip("precision", "0.5 * v * v", "v * v / 2.0 + 1.0 - 1.0", "adds and subtracts one"),
        Slip("precision", "0.01 * math.sin(position)", "math.sin(position) / 100.0",
             "divides instead of multiplying"),
        Slip("cost", "position = position + 0.01 * v",
             "for j in range(steps // 32):\n            energy = position * j\n"
             "            position = position + 0.0 * math.sin(energy)\n"
             "        position = position + 0.01 * v", "adds a loop to every step"),
    ),
)  # fmt: skip

AFFINE: Final = Base(
    "affine",
    "x float; y float",
    "z float; larger float; known bool",
    """
    z = x * slope + y
    larger = y
    if x > y:
        larger = x
    known = x == x and y == y
    """,
    parameters="slope float -8 8 =0.75",
    numpy="""
    z = x * slope + y
    larger = np.where(x > y, x, y)
    known = (x == x) & (y == y)
    """,
    slips=(
        Slip("value", "larger = y\n    if x > y:\n        larger = x",
             "larger = x\n    if y >= x:\n        larger = y", "returns the other one beside NaN"),
        Slip("value", "x == x and y == y", "x == x", "takes NaN in one column for a number"),
        Slip("value", "if x > y:", "if x > y and x - y < 1e300:", "does not see infinity"),
        Slip("precision", "x * slope + y", "(x * slope + y + slope) - slope",
             "adds and subtracts a parameter"),
        Slip("domain", "known = x == x and y == y", "known = x - x + y - y == 0.0",
             "takes infinity for NaN"),
    ),
)  # fmt: skip

MOTION: Final = (NEWTON_ROOT, PHASE, DAMPED, ESCAPE_TIME, COMPOUND, PENDULUM, AFFINE)
