"""Every error says what to do, and survives the way to another process."""

import pickle

import pytest

from hotloop.kernels import errors

EXAMPLES: tuple[errors.KernelsError, ...] = (
    errors.KernelsError("plain"),
    errors.UnknownWorkloadError("loop", ["loops"]),
    errors.UnknownKernelError("rust", ("python", "cython")),
    errors.KernelUnavailableError("cython", "not built; build it"),
    errors.InstructionSetUnavailableError("cython", "sse9", ("avx2+fma", "baseline")),
    errors.InvalidInputError("value", "value is wrong"),
    errors.InvalidParameterError("cpu_iterations", "cpu_iterations is wrong"),
    errors.InvalidColumnError("offset", "offset is wrong"),
    errors.WorkloadError("a workload cannot be called 'X'"),
    errors.WorkloadChangedError("loops", "1" * 64, "2" * 64),
)


def test_every_error_has_an_example() -> None:
    assert {type(error).__name__ for error in EXAMPLES} == set(errors.__all__)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_error_survives_pickling(error: errors.KernelsError, protocol: int) -> None:
    copy = pickle.loads(pickle.dumps(error, protocol))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert copy.args == error.args
    assert vars(copy) == vars(error)


def test_error_texts_name_the_way_out() -> None:
    assert [str(error) for error in EXAMPLES[1:6]] == [
        "unknown workload 'loop'; choose one of: loops",
        "unknown kernel 'rust'; choose one of: python, cython",
        "kernel 'cython' is unavailable: not built; build it",
        "kernel 'cython' cannot use the instruction set 'sse9' on this machine; "
        "choose one of: avx2+fma, baseline",
        "value is wrong",
    ]


def test_invalid_input_is_a_value_error() -> None:
    assert issubclass(errors.InvalidInputError, ValueError)


def test_tree_in_the_module_docstring_names_every_error() -> None:
    assert errors.__doc__ is not None
    assert all(name in errors.__doc__ for name in errors.__all__)
