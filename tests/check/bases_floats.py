"""Workloads on floats: finance, geometry, iterations."""

from __future__ import annotations

from typing import Final

from tests.check.bases import Base, Slip

PUT_TREE: Final = Base(
    "put_tree",
    "spot float 1 200; strike float 1 200; years float 0.05 3",
    "price float",
    """
    dt = years / steps
    up = math.exp(volatility * math.sqrt(dt))
    down = 1.0 / up
    growth = math.exp(0.03 * dt)
    p = (growth - down) / (up - down)
    level = spot
    for k in range(steps):
        level = level * down
    wide = up * up
    for k in range(steps + 1):
        values[k] = max(strike - level, 0.0)
        level = level * wide
    for m in range(steps, 0, -1):
        for k in range(m):
            values[k] = (p * values[k + 1] + (1.0 - p) * values[k]) / growth
    price = max(values[0], strike - spot)
    """,
    parameters="steps int 1 400 =24; volatility float 0.05 0.9 =0.3",
    scratch="values float64 steps+2",
    cost={"nodes": "steps * (steps + 1) / 2", "start": "steps", "item": "1"},
    slips=(
        Slip("value", "0.03 * dt", "0.0301 * dt", "uses another rate of interest"),
        Slip("value", "range(steps, 0, -1)", "range(steps, 1, -1)", "folds one level too few"),
        Slip("value", "max(values[0], strike - spot)", "values[0]", "forgets early exercise"),
        Slip("precision", "for k in range(steps):\n        level = level * down",
             "level = spot * down ** steps", "takes a power for repeated products"),
        Slip("precision", "/ growth\n", "* (1.0 / growth)\n", "multiplies by a reciprocal"),
        Slip("precision", "p * values[k + 1] + (1.0 - p) * values[k]",
             "values[k] + p * (values[k + 1] - values[k])", "interpolates in another form"),
        Slip("scratch", "for k in range(steps + 1):", "for k in range(steps):",
             "leaves the last value of the scratch array unwritten and reads it"),
        Slip("bounds", "for k in range(m):", "for k in range(steps + 2):",
             "reads one past the end of the scratch array on every level"),
        Slip("bounds", "for k in range(steps + 1):", "for k in range(steps + 3):",
             "writes one past the end of the scratch array"),
        Slip("cost", "for k in range(m):",
             "for again in range(steps * steps // 16):\n            level = level * 0.5 + values[0]\n"
             "        values[steps + 1] = level\n"
             "        for k in range(m):", "adds a loop over squared steps to every level"),
    ),
)  # fmt: skip

HAVERSINE: Final = Base(
    "haversine",
    "lat1 float -90 90; lon1 float -180 180; lat2 float -90 90; lon2 float -180 180",
    "kilometres float ulp=4",
    """
    a = math.radians(lat1)
    b = math.radians(lat2)
    s = math.sin((b - a) * 0.5)
    t = math.sin(math.radians(lon2 - lon1) * 0.5)
    h = s * s + math.cos(a) * math.cos(b) * t * t
    h = min(h, 1.0)
    kilometres = 2.0 * 6371.0088 * math.asin(math.sqrt(h))
    """,
    slips=(
        Slip("value", "6371.0088", "6371.0", "uses a rounded radius"),
        Slip("value", "math.radians(lon2 - lon1)", "math.radians(abs(lon2 - lon1) % 180.0)",
             "takes differences of longitude modulo 180"),
        Slip("precision", "math.radians(lat1)", "lat1 * 0.0174532925199433",
             "uses pi to 15 digits for one latitude"),
        Slip("precision", "math.asin(math.sqrt(h))", "math.asin(float(np.float32(math.sqrt(h))))",
             "rounds an intermediate to float32"),
        Slip("domain", "h = min(h, 1.0)", "h = h * 1.0000000000000009",
             "takes the arc sine of more than 1 for opposite points"),
    ),
)  # fmt: skip

LOGISTIC_MAP: Final = Base(
    "logistic_map",
    "x float 0 1; r float 2.5 4",
    "value float; mean float",
    """
    value = x
    total = 0.0
    for k in range(rounds):
        value = r * value * (1.0 - value)
        total = total + value
    mean = total / rounds
    """,
    parameters="rounds int 1 3000 =50",
    cost={"rounds": "rounds", "item": "1"},
    numpy="""
    value = x
    total = np.zeros(n)
    for k in range(rounds):
        value = r * value * (1.0 - value)
        total = total + value
    mean = total / rounds
    """,
    slips=(
        Slip("value", "range(rounds)", "range(rounds - rounds // 32)", "stops some rounds early"),
        Slip("value", "total / rounds", "total / (rounds + 1)", "divides by one too many"),
        Slip("precision", "r * value * (1.0 - value)", "r * (value * (1.0 - value))",
             "multiplies in another order"),
        Slip("precision", "r * value * (1.0 - value)", "r * value - r * value * value",
             "expands a product"),
        Slip("precision", "total / rounds", "total * (1.0 / rounds)", "multiplies by a reciprocal"),
        Slip("cost", "total = total + value",
             "total = 0.0\n        y = x\n        for j in range(k + 1):\n"
             "            y = r * y * (1.0 - y)\n            total = total + y",
             "starts the sum anew in every round"),
    ),
)  # fmt: skip

POLYNOMIAL: Final = Base(
    "polynomial",
    "x float -2 2; offset float -1 1",
    "y float; slope float",
    """
    y = 0.0
    slope = 0.0
    for k in range(degree, -1, -1):
        slope = slope * x + y
        y = y * x + scale / (k + 1)
    y = y + offset
    """,
    parameters="degree int 0 800 =12; scale float 0.5 2 =1.25",
    cost={"terms": "degree + 1", "item": "1"},
    numpy="""
    y = np.zeros(n)
    slope = np.zeros(n)
    for k in range(degree, -1, -1):
        slope = slope * x + y
        y = y * x + scale / (k + 1)
    y = y + offset
    """,
    slips=(
        Slip("value", "range(degree, -1, -1)", "range(degree, 0, -1)", "leaves out the constant"),
        Slip("value", "slope * x + y", "slope * x + y * (1.0 if k < 12 else 0.0)",
             "leaves the term of highest degree out of the slope"),
        Slip("precision", "scale / (k + 1)", "scale * (1.0 / (k + 1))",
             "multiplies by a reciprocal"),
        Slip("precision", "y = y + offset", "y = (y + 1.0) + (offset - 1.0)",
             "adds and subtracts one"),
        Slip("cost", "slope = slope * x + y",
             "slope = 0.0\n        part = 0.0\n        for j in range(degree, k - 1, -1):\n"
             "            slope = slope * x + part\n"
             "            part = part * x + scale / (j + 1)",
             "computes the slope anew for every term"),
    ),
)  # fmt: skip

SIMPSON: Final = Base(
    "simpson",
    "lower float -5 5; span float 0.1 5",
    "area float",
    """
    panels = intervals // 2
    h = span / (2.0 * panels)
    total = 0.0
    for k in range(panels):
        a = lower + 2.0 * k * h
        b = a + h
        c = b + h
        fa = 1.0 / (1.0 + bend * a * a)
        fb = 1.0 / (1.0 + bend * b * b)
        fc = 1.0 / (1.0 + bend * c * c)
        total = total + (fa + 4.0 * fb + fc)
    area = total * h / 3.0
    """,
    parameters="intervals int 2 2000 =24; bend float 0 4 =1.5",
    cost={"points": "intervals", "item": "1"},
    slips=(
        Slip("value", "range(panels)", "range(1, panels)", "leaves out the first panel"),
        Slip("value", "intervals // 2", "(intervals - 1) // 2 + 1",
             "rounds an odd number of intervals up"),
        Slip("precision", "total * h / 3.0", "total * (h / 3.0)", "divides before it multiplies"),
        Slip("precision", "fa + 4.0 * fb + fc", "fa + fc + 4.0 * fb", "adds in another order"),
        Slip("precision", "lower + 2.0 * k * h", "(lower if k == 0 else c)",
             "steps from panel to panel by adding"),
        Slip("cost", "total = total + (fa",
             "total = 0.0\n        for j in range(k + 1):\n"
             "            a = lower + 2.0 * j * h\n            b = a + h\n            c = b + h\n"
             "            fa = 1.0 / (1.0 + bend * a * a)\n"
             "            fb = 1.0 / (1.0 + bend * b * b)\n"
             "            fc = 1.0 / (1.0 + bend * c * c)\n"
             "            total = total + (fa", "adds up all panels again at every panel"),
    ),
)  # fmt: skip

TRIANGLE: Final = Base(
    "triangle",
    "a float 0 10; b float 0 10; c float 0 10",
    "area float; kind int8; valid bool",
    """
    longest = max(max(a, b), c)
    perimeter = a + b + c
    valid = perimeter - longest > longest
    kind = 0
    if a == b:
        kind += 1
    if b == c:
        kind += 2
    if a == c:
        kind += 4
    area = 0.0
    if valid:
        s = perimeter * 0.5
        area = math.sqrt(max(s * (s - a) * (s - b) * (s - c), 0.0))
    """,
    numpy="""
    longest = np.maximum(np.maximum(a, b), c)
    perimeter = a + b + c
    valid = perimeter - longest > longest
    kind = (a == b) * 1 + (b == c) * 2 + (a == c) * 4
    s = perimeter * 0.5
    product = s * (s - a) * (s - b) * (s - c)
    area = np.where(valid, np.sqrt(np.maximum(product, 0.0)), 0.0)
    """,
    slips=(
        Slip("value", "if a == c:", "if abs(a - c) < 0.03:", "takes close sides for equal ones"),
        Slip("value", "if b == c:\n        kind += 2\n", "pass\n", "overlooks two equal sides"),
        Slip("value", "perimeter - longest > longest", "perimeter - longest >= longest",
             "accepts triangles without an area"),
        Slip("precision", "s * (s - a) * (s - b) * (s - c)", "(s * (s - a)) * ((s - b) * (s - c))",
             "multiplies in pairs"),
        Slip("precision", "a + b + c", "a + (b + c)", "adds in another order"),
        Slip("domain", "if valid:\n        s = perimeter * 0.5\n        "
             "area = math.sqrt(max(s * (s - a) * (s - b) * (s - c), 0.0))",
             "s = perimeter * 0.5\n    area = math.sqrt(s * (s - a) * (s - b) * (s - c))",
             "takes the root of a negative number for impossible triangles"),
    ),
)  # fmt: skip

CLIP_SCALE: Final = Base(
    "clip_scale",
    "x float -1000 1000; gain float -3 3",
    "y float; clipped bool",
    """
    y = x * gain
    clipped = False
    if y < low:
        y = low
        clipped = True
    elif y > high:
        y = high
        clipped = True
    if invert:
        y = -y
    """,
    parameters="low float -2000 0 =-900; high float 0 2000 =1100; invert bool =False",
    numpy="""
    y = x * gain
    clipped = (y < low) | (y > high)
    y = np.where(y < low, low, np.where(y > high, high, y))
    if invert:
        y = -y
    """,
    slips=(
        Slip("value", "if invert:", "if invert and not clipped:",
             "does not negate what was clipped"),
        Slip("value", "elif y > high:", "elif y > high * 1.05:", "clips five per cent too late"),
        Slip("value", "if y < low:\n        y = low\n        clipped = True",
             "if y < low:\n        y = low", "does not tell clipping at the lower end"),
        Slip("precision", "x * gain", "x / (1.0 / gain)", "divides by a reciprocal"),
    ),
)  # fmt: skip

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
             "for j in range(steps // 8):\n            energy = position * j\n"
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

FLOATS: Final = (
    PUT_TREE, HAVERSINE, LOGISTIC_MAP, POLYNOMIAL, SIMPSON, TRIANGLE, CLIP_SCALE, NEWTON_ROOT,
    PHASE, DAMPED, ESCAPE_TIME, COMPOUND, PENDULUM, AFFINE,
)  # fmt: skip
