"""Workloads on vectors, tables and scratch arrays."""

from __future__ import annotations

from typing import Final

from tests.check.bases import Base, Slip

WARPING: Final = Base(
    "warping",
    "p float -1 1 *12; q float -1 1 *12",
    "distance float; straight float",
    """
    for j in range(13):
        row[j] = 1e300
    row[0] = 0.0
    straight = 0.0
    for k in range(12):
        corner = row[0]
        row[0] = 1e300
        straight = straight + abs(p[k] - q[k])
        for j in range(12):
            least = min(min(row[j + 1] + penalty, row[j] + penalty), corner)
            corner = row[j + 1]
            row[j + 1] = least + abs(p[k] - q[j])
    distance = row[12]
    """,
    parameters="penalty float 0 1 =0.125",
    scratch="row float64 13",
    slips=(
        Slip("value", "row[j] + penalty", "row[j] + 2.0 * penalty", "punishes one way twice"),
        Slip("value", "straight + abs(p[k] - q[k])", "straight + abs(p[k] - q[0])",
             "compares with the first value only"),
        Slip("precision", "least + abs(p[k] - q[j])", "least - p[k] + q[j] if p[k] < q[j] "
             "else least + p[k] - q[j]", "adds in another order"),
        Slip("scratch", "for j in range(13):", "for j in range(12):",
             "leaves the last value of the row unwritten"),
        Slip("scratch", "row[j] = 1e300\n", "row[j] = max(row[j], 1e300)\n",
             "takes what was in the row if it is larger"),
        Slip("bounds", "for j in range(12):\n            least",
             "for j in range(13):\n            least",
             "goes one past the end of the row and of a vector"),
        Slip("bounds", "for j in range(13):", "for j in range(14):",
             "writes one past the end of the row"),
    ),
)  # fmt: skip

NORMS: Final = Base(
    "norms",
    "v float -10 10 *16",
    "manhattan float; euclid float; largest float; place int8",
    """
    manhattan = 0.0
    square = 0.0
    largest = -1.0
    place = 0
    for j in range(16):
        size = abs(v[j])
        manhattan = manhattan + size
        square = square + size * size
        if size > largest:
            largest = size
            place = j
    euclid = math.sqrt(square)
    """,
    numpy="""
    size = np.abs(v)
    manhattan = np.zeros(n)
    square = np.zeros(n)
    for j in range(16):
        manhattan = manhattan + size[:, j]
        square = square + size[:, j] * size[:, j]
    largest = size.max(axis=1)
    place = size.argmax(axis=1)
    euclid = np.sqrt(square)
    """,
    slips=(
        Slip("value", "if size > largest:", "if size >= largest:", "takes the last of equal sizes"),
        Slip("value", "range(16)", "range(15)", "leaves out the last value"),
        Slip("value", "largest = -1.0", "largest = 5.0", "does not tell sizes below 5"),
        Slip("precision", "for j in range(16):", "for j in range(15, -1, -1):",
             "adds from the end"),
        Slip("precision", "math.sqrt(square)", "square ** 0.5000000000000001",
             "takes a power a little above one half"),
        Slip("precision", "square + size * size", "square + float(np.float32(size * size))",
             "squares in float32"),
        Slip("bounds", "for j in range(16):", "for j in range(17):",
             "reads one past the end of the vector"),
        Slip("bounds", "size = abs(v[j])",
             "size = abs(v[j])\n        ahead = v[j + 1] if size < 10.0 else 0.0\n"
             "        size = size if ahead == ahead else abs(ahead)",
             "looks at the value after the last"),
    ),
)  # fmt: skip

HISTOGRAM: Final = Base(
    "histogram",
    "v float 0 1 *24",
    "mode int16; fullest int16; spread float",
    """
    for b in range(bins):
        counts[b] = 0
    for j in range(24):
        b = int(v[j] * bins)
        if b >= bins:
            b = bins - 1
        counts[b] += 1
    mode = 0
    fullest = 0
    spread = 0.0
    for b in range(bins):
        if counts[b] > fullest:
            fullest = counts[b]
            mode = b
        spread = spread + counts[b] * counts[b] / 24.0
    """,
    parameters="bins int 1 600 =8",
    scratch="counts int64 bins",
    cost={"bins": "bins", "item": "1"},
    slips=(
        Slip("value", "counts[b] > fullest", "counts[b] >= fullest", "takes the last full bin"),
        Slip("value", "v[j] * bins", "v[j] * bins * 0.999", "shifts the bins"),
        Slip("precision", "/ 24.0", "* (1.0 / 24.0)", "multiplies by a reciprocal"),
        Slip("scratch", "for b in range(bins):\n        counts[b] = 0\n", "pass\n",
             "does not set the counts to zero"),
        Slip("scratch", "for b in range(bins):\n        counts[b] = 0\n",
             "for b in range(1, bins):\n        counts[b] = 0\n",
             "does not set the first count to zero"),
        Slip("bounds", "if b >= bins:\n            b = bins - 1\n", "pass\n",
             "counts a value of exactly 1 past the end"),
        Slip("bounds", "for b in range(bins):\n        if counts[b] > fullest:",
             "for b in range(bins):\n        later = counts[b + 1]\n"
             "        if counts[b] > fullest or (counts[b] > later and later > 100):",
             "reads the count after the last"),
        Slip("cost", "spread = spread + counts[b] * counts[b] / 24.0",
             "spread = 0.0\n        for j in range(b + 1):\n"
             "            spread = spread + counts[j] * counts[j] / 24.0",
             "starts the sum anew at every bin"),
    ),
)  # fmt: skip

SMOOTH: Final = Base(
    "smooth",
    "v float -5 5 *20",
    "top float; place int8; ends float",
    """
    for j in range(20):
        low = max(j - half, 0)
        high = min(j + half, 19)
        total = 0.0
        for k in range(low, high + 1):
            total = total + v[k]
        smoothed[j] = total / (high - low + 1)
    top = smoothed[0]
    place = 0
    for j in range(1, 20):
        if smoothed[j] > top:
            top = smoothed[j]
            place = j
    ends = smoothed[0] + smoothed[19]
    """,
    parameters="half int 0 19 =2",
    scratch="smoothed float64 20",
    cost="data",
    slips=(
        Slip("value", "high - low + 1)", "2 * half + 1)", "divides by too much at the ends"),
        Slip("value", "min(j + half, 19)", "min(j + half, 18)", "leaves out the last value"),
        Slip("precision", "range(low, high + 1)", "range(high, low - 1, -1)", "adds from the end"),
        Slip("precision", "total / (high - low + 1)", "total * (1.0 / (high - low + 1))",
             "multiplies by a reciprocal"),
        Slip("scratch", "smoothed[j] = total / (high - low + 1)",
             "smoothed[j] = 0.0 * smoothed[j] + total / (high - low + 1)",
             "multiplies what was in the scratch array by zero"),
        Slip("scratch", "for j in range(20):", "for j in range(19):",
             "leaves the last smoothed value unwritten"),
        Slip("bounds", "min(j + half, 19)", "min(j + half, 19 + (half == 19))",
             "reads one past the vector for the widest window"),
        Slip("bounds", "for j in range(1, 20):", "for j in range(1, 21):",
             "compares with a smoothed value that is not there"),
    ),
)  # fmt: skip

EDIT_DISTANCE: Final = Base(
    "edit_distance",
    "s int16 0 3 *10; t int16 0 3 *10",
    "distance int16; same bool; shared int8",
    """
    for j in range(11):
        table[0, j] = j
        table[j, 0] = j
    shared = 0
    for j in range(10):
        if s[j] == t[j]:
            shared += 1
        for k in range(10):
            change = 2
            if s[j] == t[k]:
                change = 0
            least = min(table[j, k + 1], table[j + 1, k]) + 1
            table[j + 1, k + 1] = min(least, table[j, k] + change)
    distance = table[10, 10]
    same = distance == 0
    """,
    scratch="table int64 11,11",
    slips=(
        Slip("value", "change = 2", "change = 1", "lets a change cost one"),
        Slip("value", "if s[j] == t[j]:", "if s[j] == t[j] and s[j] != 3:", "overlooks threes"),
        Slip("value", "same = distance == 0", "same = distance <= 4", "takes similar for same"),
        Slip("scratch", "table[0, j] = j\n        table[j, 0] = j",
             "if j > 0:\n            table[0, j] = j\n            table[j, 0] = j",
             "relies on a zero in the corner of the table"),
        Slip("integer", "distance = table[10, 10]",
             "distance = int(np.int8(table[10, 10] * 16)) // 16", "keeps the distance in 4 bits"),
        Slip("bounds", "for j in range(11):", "for j in range(12):",
             "writes one past the end of the table"),
    ),
)  # fmt: skip

DETERMINANT: Final = Base(
    "determinant",
    "m float -2 2 *9",
    "det float; singular bool",
    """
    for r in range(3):
        for c in range(3):
            lu[r, c] = m[3 * r + c]
    det = 1.0
    singular = False
    for k in range(3):
        best = k
        for r in range(k + 1, 3):
            if abs(lu[r, k]) > abs(lu[best, k]):
                best = r
        if lu[best, k] == 0.0:
            singular = True
            det = 0.0
            break
        if best != k:
            det = -det
            for c in range(3):
                kept = lu[k, c]
                lu[k, c] = lu[best, c]
                lu[best, c] = kept
        det = det * lu[k, k]
        for r in range(k + 1, 3):
            share = lu[r, k] / lu[k, k]
            for c in range(k, 3):
                lu[r, c] = lu[r, c] - share * lu[k, c]
    """,
    scratch="lu float64 3,3",
    slips=(
        Slip("value", "det = -det\n", "det = -det if k == 0 else det\n",
             "forgets the sign of the second exchange"),
        Slip("value", "singular = True", "singular = False", "does not tell singular matrices"),
        Slip("precision", "abs(lu[r, k]) > abs(lu[best, k])", "abs(lu[r, k]) > 2.0",
             "eliminates without choosing the largest pivot"),
        Slip("precision", "lu[r, c] - share * lu[k, c]",
             "lu[r, c] - lu[r, k] * lu[k, c] / lu[k, k] if c > k else lu[r, c]",
             "divides after multiplying"),
        Slip("domain", "if lu[best, k] == 0.0:", "if abs(lu[best, k]) < 0.0:",
             "divides by a zero pivot"),
        Slip("scratch", "for c in range(3):\n            lu[r, c] = m[3 * r + c]",
             "for c in range(3):\n            if m[3 * r + c] > -1.99:\n"
             "                lu[r, c] = m[3 * r + c]", "skips the smallest entries"),
        Slip("bounds", "for c in range(k, 3):", "for c in range(k, 4):",
             "goes one past the last column"),
    ),
)  # fmt: skip

EMA: Final = Base(
    "ema",
    "prices float 1 100 *24",
    "level float; crossings int8",
    """
    level = prices[0]
    crossings = 0
    above = True
    for j in range(1, 24):
        now = prices[j] > level
        if now != above:
            crossings += 1
        above = now
        level = level + alpha * (prices[j] - level)
    """,
    parameters="alpha float 0.01 1 =0.2",
    numpy="""
    level = prices[:, 0]
    crossings = np.zeros(n, np.int64)
    above = np.ones(n, np.bool_)
    for j in range(1, 24):
        now = prices[:, j] > level
        crossings = crossings + (now != above)
        above = now
        level = level + alpha * (prices[:, j] - level)
    """,
    slips=(
        Slip("value", "prices[j] > level", "prices[j] >= level", "takes equal for above"),
        Slip("value", "range(1, 24)", "range(1, 23)", "leaves out the last price"),
        Slip("precision", "level + alpha * (prices[j] - level)",
             "(1.0 - alpha) * level + alpha * prices[j]", "weights both sides"),
        Slip("precision", "level + alpha * (prices[j] - level)",
             "level + (alpha * prices[j] - alpha * level)", "expands a product"),
        Slip("bounds", "range(1, 24)", "range(1, 25)", "reads one past the end of the vector"),
    ),
)  # fmt: skip

SHARES: Final = Base(
    "shares",
    "u float32 0 1 *8; extra float32 0 10",
    "total float; top float32; even bool",
    """
    total = 0.0
    top = 0.0
    for j in range(8):
        total = total + u[j]
        if u[j] > top:
            top = u[j]
    total = total + extra
    even = total * 0.25 > top
    """,
    slips=(
        Slip("value", "total * 0.25 > top", "total * 0.26 > top", "is even too easily"),
        Slip("value", "total + extra", "total + min(extra, 9.9)", "clips the extra share"),
        Slip("precision", "total + u[j]", "float(np.float32(total + u[j]))", "adds in float32"),
        Slip("precision", "total = total + extra", "total = float(np.float32(total)) + extra",
             "rounds a sum to float32"),
        Slip("bounds", "range(8)", "range(9)", "reads one past the end of the vector"),
    ),
)  # fmt: skip

LATTICE: Final = Base(
    "lattice",
    "a float 0 1; b float 0 1",
    "total float; corner float",
    """
    for j in range(columns):
        line[j] = a
    total = 0.0
    for k in range(rows):
        left = b
        for j in range(columns):
            left = 0.5 * (left + line[j])
            line[j] = left
        total = total + left
    corner = line[columns - 1]
    """,
    parameters="rows int 1 500 =8; columns int 1 500 =8",
    scratch="line float64 columns",
    cost={"cells": "rows * columns", "start": "columns", "item": "1"},
    slips=(
        Slip("value", "line[columns - 1]", "line[(columns - 1) // 2]", "returns a middle cell"),
        Slip("value", "left = b\n", "left = b if k < 7 else a\n", "mixes up both ends below row 7"),
        Slip("precision", "0.5 * (left + line[j])", "left + 0.5 * (line[j] - left)",
             "averages in another form"),
        Slip("scratch", "for j in range(columns):\n        line[j] = a\n",
             "for j in range(columns - 1):\n        line[j] = a\n",
             "leaves the last cell of the line unwritten"),
        Slip("scratch", "line[j] = a\n", "line[j] = max(a, line[j])\n",
             "takes what was in the line if it is larger"),
        Slip("bounds", "left = 0.5 * (left + line[j])",
             "ahead = line[j + 1]\n            left = 0.5 * (left + line[j])\n"
             "            left = min(left, max(ahead, 2.0))", "looks one cell ahead of the last"),
        Slip("cost", "total = total + left",
             "total = total + left\n        for again in range(k + 1):\n"
             "            for j in range(columns):\n"
             "                left = 0.5 * (left + line[j])\n"
             "        if left > 1e9:\n            total = left",
             "goes through all rows again at every row"),
    ),
)  # fmt: skip

VECTORS: Final = (
    WARPING, NORMS, HISTOGRAM, SMOOTH, EDIT_DISTANCE, DETERMINANT, EMA, SHARES, LATTICE,
)  # fmt: skip
