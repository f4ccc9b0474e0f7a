"""Workloads on floats: finance, geometry, sums."""

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
             "for again in range(steps * steps // 16):\n"
             "            level = level * 0.5 + values[0]\n"
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

FLOATS: Final = (PUT_TREE, HAVERSINE, LOGISTIC_MAP, POLYNOMIAL, SIMPSON, TRIANGLE, CLIP_SCALE)
