"""American options in QuantLib, priced by its binomial tree or by its engine QdFp."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import QuantLib

__all__ = ["Option"]


@dataclass(frozen=True)
class Option:
    """An American option and its market; `kind` is put or call."""

    spot: float
    strike: float
    days: int
    volatility: float
    rate: float
    dividends: float
    kind: str

    @cached_property
    def process(self) -> Any:
        """The process of the share, for engines of any kind."""
        today, count = QuantLib.Date(1, 1, 2020), QuantLib.Actual365Fixed()
        QuantLib.Settings.instance().evaluationDate = today

        def flat(value: float) -> Any:
            return QuantLib.YieldTermStructureHandle(QuantLib.FlatForward(today, value, count))

        return QuantLib.BlackScholesMertonProcess(
            QuantLib.QuoteHandle(QuantLib.SimpleQuote(self.spot)),
            flat(self.dividends),
            flat(self.rate),
            QuantLib.BlackVolTermStructureHandle(
                QuantLib.BlackConstantVol(today, QuantLib.NullCalendar(), self.volatility, count)
            ),
        )

    def by_tree(self, steps: int) -> Any:
        """Return the instrument with the tree of Cox, Ross and Rubinstein as its engine."""
        return self._with(QuantLib.BinomialVanillaEngine(self.process, "crr", steps))

    def by_qdfp(self) -> Any:
        """Return the instrument with QdFp as its engine, which is exact to many digits."""
        scheme = QuantLib.QdFpAmericanEngine.highPrecisionScheme()
        return self._with(QuantLib.QdFpAmericanEngine(self.process, scheme))

    def _with(self, engine: Any) -> Any:
        right = QuantLib.Option.Call if self.kind == "call" else QuantLib.Option.Put
        payoff = QuantLib.PlainVanillaPayoff(right, self.strike)
        today = QuantLib.Settings.instance().evaluationDate
        instrument = QuantLib.VanillaOption(
            payoff, QuantLib.AmericanExercise(today, today + self.days)
        )
        instrument.setPricingEngine(engine)
        return instrument
