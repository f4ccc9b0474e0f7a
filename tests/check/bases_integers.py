"""Workloads on integers and booleans: number theory, calendars, money."""

from __future__ import annotations

from typing import Final

from tests.check.bases import Base, Slip

COLLATZ: Final = Base(
    "collatz",
    "start int 1 2000000000",
    "steps int32; peak int64",
    """
    value = start
    peak = start
    steps = 0
    while value != 1 and steps < limit:
        if value % 2 == 0:
            value = value // 2
        else:
            value = 3 * value + 1
        if value > peak:
            peak = value
        steps += 1
    """,
    parameters="limit int 1 500 =200",
    cost="data",
    slips=(
        Slip("value", "steps < limit", "steps <= limit", "does one step too many"),
        Slip("value", "if value > peak:", "if value > peak and value % 2 == 0 and value < 900000:",
             "overlooks high peaks"),
        Slip("integer", "peak = value", "peak = int(np.int32(value))", "keeps the peak in 32 bits"),
        Slip("integer", "3 * value + 1", "int(np.int32(3 * value + 1))",
             "computes in 32 bits"),
        Slip("integer", "steps += 1", "steps = int(np.int8(steps + 1))", "counts in 8 bits"),
    ),
)  # fmt: skip

COMMON_DIVISOR: Final = Base(
    "common_divisor",
    "a int 0 1000000000 sample=_multiples; b int 0 1000000000",
    "divisor int64; multiple int64; coprime bool",
    """
    x = a
    y = b
    while y != 0:
        r = x % y
        x = y
        y = r
    divisor = x
    multiple = 0
    if x != 0:
        multiple = a // x * b
    coprime = x == 1
    """,
    cost="data",
    header="""
    def _multiples(item_ids):
        return item_ids * 40320 % 1000000000
    """,
    slips=(
        Slip("value", "coprime = x == 1", "coprime = x <= 1", "takes two zeros for coprime"),
        Slip("value", "multiple = a // x * b", "multiple = a * (b // max(x, 2))",
             "divides by 2 where there is no common divisor"),
        Slip("integer", "a // x * b", "int(float(a) * float(b) / x)",
             "computes the multiple in floating point"),
        Slip("integer", "a // x * b", "int(np.int32(a // x)) * int(np.int32(b)) % 4294967296",
             "keeps 32 bits of the multiple"),
        Slip("domain", "multiple = 0\n    if x != 0:\n        multiple = a // x * b",
             "multiple = a // x * b", "divides by zero where both numbers are 0"),
    ),
)  # fmt: skip

MODULAR_POWER: Final = Base(
    "modular_power",
    "base int 0 2147483647; exponent int32 0 10000",
    "residue int64; odd bool",
    """
    result = 1 % modulus
    factor = base % modulus
    e = exponent
    while e > 0:
        if e % 2 == 1:
            result = result * factor % modulus
        factor = factor * factor % modulus
        e = e // 2
    residue = result
    odd = result % 2 == 1
    """,
    parameters="modulus int 1 2147483647 =1000003",
    cost="data",
    slips=(
        Slip("value", "1 % modulus", "1", "forgets the modulus of the start"),
        Slip("value", "while e > 0:", "while e > 0 and e != 8192:", "stops before the last bit"),
        Slip("integer", "factor = factor * factor % modulus",
             "factor = int(np.uint32(factor * factor)) % modulus", "squares in 32 bits"),
        Slip("integer", "result * factor % modulus",
             "int(np.float64(result) * np.float64(factor) % modulus)",
             "multiplies in floating point, exact for a small modulus only"),
        Slip("integer", "result * factor % modulus",
             "abs(int(np.int32(result * factor))) % modulus", "multiplies in 32 bits"),
    ),
)  # fmt: skip

CALENDAR: Final = Base(
    "calendar",
    "days int32 -1000000 1000000",
    "year int32; month int8; day int8; weekday int8",
    """
    weekday = (days + 4) % 7
    z = days + 719468
    era = z // 146097
    doe = z - era * 146097
    yoe = (doe - doe // 1460 + doe // 36524 - doe // 146096) // 365
    doy = doe - (365 * yoe + yoe // 4 - yoe // 100)
    mp = (5 * doy + 2) // 153
    day = doy - (153 * mp + 2) // 5 + 1
    month = mp + 3
    if month > 12:
        month = mp - 9
    year = yoe + era * 400
    if month <= 2:
        year = year + 1
    """,
    numpy="""
    days = days.astype(np.int64)
    weekday = (days + 4) % 7
    z = days + 719468
    era = z // 146097
    doe = z - era * 146097
    yoe = (doe - doe // 1460 + doe // 36524 - doe // 146096) // 365
    doy = doe - (365 * yoe + yoe // 4 - yoe // 100)
    mp = (5 * doy + 2) // 153
    day = doy - (153 * mp + 2) // 5 + 1
    month = np.where(mp + 3 > 12, mp - 9, mp + 3)
    year = yoe + era * 400 + (month <= 2)
    """,
    slips=(
        Slip("value", "if month <= 2:", "if month < 2:", "counts February to the year before"),
        Slip("value", "- doe // 146096", "", "misses the last day of a leap century"),
        Slip("value", "(days + 4) % 7", "(days + 4 + (days > 985000)) % 7",
             "is a weekday late in the last days of the range"),
        Slip("integer", "z // 146097", "int(z / 146097)", "truncates the era of negative days"),
        Slip("integer", "(days + 4) % 7", "int(math.fmod(days + 4, 7))",
             "takes the remainder of C for negative days"),
        Slip("integer", "5 * doy + 2", "int(np.int16(100 * doy + 40)) // 20",
             "computes the month in 16 bits"),
        Slip("integer", "days + 719468", "int(np.uint32(days + 719468))",
             "takes negative days for unsigned ones"),
    ),
)  # fmt: skip

CLASSIFY: Final = Base(
    "classify",
    "age uint8 0 150; smoker bool; pressure int16 60 220; cholesterol float32 2 9",
    "score int16; alarm bool",
    """
    score = age // 10
    if smoker:
        score += 3
    if pressure >= 140:
        score += (pressure - 140) // 10 + 1
    if cholesterol > 5.2:
        score += 2
    alarm = score >= threshold
    if strict and pressure > 180:
        alarm = True
    """,
    parameters="threshold int 1 20 =9; strict bool =True",
    numpy="""
    score = age.astype(np.int64) // 10 + 3 * smoker
    score += np.where(pressure >= 140, (pressure - 140) // 10 + 1, 0)
    score += 2 * (cholesterol.astype(np.float64) > 5.2)
    alarm = score >= threshold
    if strict:
        alarm = alarm | (pressure > 180)
    """,
    slips=(
        Slip("value", "score >= threshold", "score > threshold", "needs one point more"),
        Slip("value", "pressure >= 140", "pressure > 140", "overlooks a pressure of 140"),
        Slip("value", "if strict and pressure > 180:", "if pressure > 180:",
             "is strict whatever the parameter says"),
        Slip("value", "age // 10", "min(age, 149) // 10", "takes 150 years for 149"),
        Slip("integer", "(pressure - 140) // 10", "int(np.int8(pressure - 80) - 60) // 10",
             "keeps the pressure in 8 bits"),
        Slip("integer", "age // 10", "int(np.int8(age)) // 10", "takes ages as signed bytes"),
    ),
)  # fmt: skip

RANDOM_WALK: Final = Base(
    "random_walk",
    "seed int 0 4294967295; drift float 0 1",
    "position int32; last int64; height float",
    """
    state = seed
    position = 0
    height = 0.0
    for k in range(steps):
        state = (state * 1664525 + 1013904223) % 4294967296
        if state > 2147483647:
            position += 1
        else:
            position -= 1
        height = max(height, position * drift)
    last = state
    """,
    parameters="steps int 1 2000 =30",
    cost={"steps": "steps", "item": "1"},
    numpy="""
    state = seed
    position = np.zeros(n, np.int64)
    height = np.zeros(n)
    for k in range(steps):
        state = (state * 1664525 + 1013904223) % 4294967296
        position = position + np.where(state > 2147483647, 1, -1)
        height = np.where(position * drift > height, position * drift, height)
    last = state
    """,
    slips=(
        Slip("value", "state > 2147483647", "state > 2147483647 + 30000000",
             "steps down a little more often"),
        Slip("value", "max(height, position * drift)", "max(height, (position - 1) * drift)",
             "measures the height one step too low"),
        Slip("integer", "% 4294967296", "% 4294967295", "takes the remainder by 2**32 - 1"),
        Slip("integer", "last = state", "last = int(np.int32(state))",
             "keeps the last state as signed 32 bits"),
        Slip("integer", "position += 1", "position = int(np.int8(position + 117)) - 116",
             "counts upwards in 8 bits"),
        Slip("cost", "height = max(height, position * drift)",
             "height = 0.0\n        again = seed\n        where = 0\n"
             "        for j in range(k + 1):\n"
             "            again = (again * 1664525 + 1013904223) % 4294967296\n"
             "            where += 1 if again > 2147483647 else -1\n"
             "            height = max(height, where * drift)", "walks anew at every step"),
    ),
)  # fmt: skip

INVOICE: Final = Base(
    "invoice",
    "cents int32 -1000000 1000000; quantity int16 -30000 30000; discount bool",
    "total int64; tax_cents int64",
    """
    total = cents * quantity
    if discount:
        total = total - total // 50
    tax_cents = total * tax // 1000
    if rounding == "half":
        tax_cents = (total * tax + 500) // 1000
    """,
    parameters="tax int 0 300 =190; rounding choice down half",
    numpy="""
    total = cents.astype(np.int64) * quantity
    total = np.where(discount, total - total // 50, total)
    tax_cents = (total * tax + (500 if rounding == "half" else 0)) // 1000
    """,
    slips=(
        Slip("value", "total - total // 50", "total * 49 // 50", "rounds the discount otherwise"),
        Slip("value", "+ 500", "+ 499", "rounds a half down"),
        Slip("value", 'rounding == "half"', 'rounding == "half" and total > 0',
             "rounds credits down in any case"),
        Slip("integer", "cents * quantity", "int(np.int32(cents * quantity))",
             "multiplies in 32 bits"),
        Slip("integer", "total * tax // 1000", "int(total * tax / 1000)",
             "truncates the tax of negative totals"),
        Slip("integer", "total // 50", "int(math.copysign(abs(total) // 50, total))",
             "truncates the discount of negative totals"),
        Slip("integer", "(total * tax + 500) // 1000",
             "int(math.copysign(abs(total * tax) + 500, total)) // 1000",
             "rounds the half of negative totals away from zero"),
    ),
)  # fmt: skip

DIGITS: Final = Base(
    "digits",
    "number int -1000000000000 1000000000000",
    "count int8; total int16; turned int64; palindrome bool",
    """
    rest = abs(number)
    count = 0
    total = 0
    turned = 0
    while rest > 0:
        digit = rest % radix
        turned = turned * radix + digit
        total += digit
        count += 1
        rest = rest // radix
    palindrome = turned == abs(number)
    """,
    parameters="radix int 2 36 =10",
    cost="data",
    slips=(
        Slip("value", "while rest > 0:", "while rest >= radix:", "leaves out the leading digit"),
        Slip("value", "palindrome = turned == abs(number)", "palindrome = turned == number",
             "forgets the sign"),
        Slip("integer", "rest = abs(number)", "rest = int(np.int32(abs(number)))",
             "takes the number in 32 bits"),
        Slip("integer", "turned * radix + digit", "int(np.int32(turned * radix + digit))",
             "turns the number in 32 bits"),
        Slip("integer", "total += digit", "total = int(np.int8(total + digit))",
             "adds the digits in 8 bits"),
        Slip("integer", "rest = rest // radix", "rest = int(np.float32(rest) / radix)",
             "divides in float32"),
    ),
)  # fmt: skip

INTEGERS: Final = (
    COLLATZ, COMMON_DIVISOR, MODULAR_POWER, CALENDAR, CLASSIFY, RANDOM_WALK, INVOICE, DIGITS,
)  # fmt: skip
