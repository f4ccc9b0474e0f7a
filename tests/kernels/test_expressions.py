"""Arithmetic of parameters in declarations: `kernels/expressions.py`."""

from __future__ import annotations

import pytest

from hotloop.kernels.expressions import evaluate, names_in


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("steps * (steps + 1) / 2", 55),
        ("-steps + n ** 2 - 7 // 2 % 3", -1),
        ("max(1, n - 5) + min(steps, 3) + abs(-2)", 6),
        ("ceil(sqrt(steps)) + floor(2.5) + log2(8) + log(1)", 9),
        ("flag", True),
        (" 3 ", 3),
    ],
)
def test_value_of_an_expression(text: str, value: float) -> None:
    assert evaluate(text, {"steps": 10, "n": 3, "flag": True}) == value


def test_names_are_in_the_order_of_their_use() -> None:
    assert names_in("max(b, a) * b + sqrt(c)") == ("b", "a", "c")
    assert names_in("1") == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not an arithmetic expression"),
        ("steps +", "not an arithmetic expression"),
        ("__import__('os')", "may have numbers, parameters"),
        ("steps.real", "not 'steps.real'"),
        ("[1][0]", "may have"),
        ("steps if steps else 1", "may have"),
        ("max()", "may have"),
        ("True", "may have"),
        ("other", "no parameter 'other'; there are: steps, kind"),
        ("kind", "'kind' is not a number"),
        ("1 / (steps - 10)", "cannot be computed: division by zero"),
        ("sqrt(-1)", "math domain error|expected a nonnegative"),
        ("2 ** 65", "at most 64"),
        ("(2.0 ** 64) ** 64", "cannot be computed"),
        ("1e308 * 10", "not a finite number"),
        ("(0 - 8) ** 0.5", "not a finite number"),
    ],
)
def test_other_text_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        evaluate(text, {"steps": 10, "kind": "put"})
