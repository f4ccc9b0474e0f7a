"""American options by the binomial tree of Cox, Ross and Rubinstein (1979)."""

from collections.abc import MutableSequence
from math import exp, sqrt

import hotloop

MONEY = hotloop.Float(0.01, 1e6)


@hotloop.workload(
    columns={"spot": MONEY, "strike": MONEY, "years": hotloop.Float(0.01, 4.0)},
    parameters={
        # Within these bounds, and four years, the probability of a rise lies between 0 and 1.
        "steps": hotloop.Integer(10, 5_000, default=200),
        "volatility": hotloop.Float(0.1, 1.0, default=0.2),
        "rate": hotloop.Float(0.0, 0.1, default=0.03),
        "dividends": hotloop.Float(0.0, 0.1, default=0.01),
        "kind": hotloop.Choice("put", "call"),
    },
    outputs={"price": hotloop.Float(0.0)},
    scratch=dict.fromkeys(("values", "even", "odd"), hotloop.Scratch("float64", "steps + 1")),
    cost={"nodes": "steps * (steps + 1) / 2", "start": "steps"},
)
def american(
    spot: float, strike: float, years: float, steps: int, volatility: float, rate: float,
    dividends: float, kind: str, values: MutableSequence[float], even: MutableSequence[float],
    odd: MutableSequence[float],
) -> float:  # fmt: skip
    """Price of an option that can be exercised at any time, with a continuous dividend yield."""
    step = years / steps
    up = exp(volatility * sqrt(step))
    probability = (exp((rate - dividends) * step) - 1.0 / up) / (up - 1.0 / up)
    rise = exp(-rate * step) * probability
    fall = exp(-rate * step) * (1.0 - probability)
    sign = 1.0 if kind == "call" else -1.0
    # The gains of exercise at all prices of the tree. An even number of steps before expiry, the
    # prices are every second one; an odd number before, they are those between.
    price = spot * exp(-volatility * sqrt(step) * steps)
    for node in range(steps + 1):
        even[node] = sign * (price - strike)
        odd[node] = sign * (price * up - strike)
        values[node] = even[node] if even[node] > 0.0 else 0.0
        price *= up * up
    for level in range(1, steps + 1):
        gains = odd[level // 2 :] if level % 2 else even[level // 2 :]
        for node in range(steps + 1 - level):
            held = rise * values[node + 1] + fall * values[node]
            values[node] = held if held > gains[node] else gains[node]
    return values[0]
