# cython: language_level=3, freethreading_compatible=True, autotestdict=False
#
# freethreading_compatible: there is no shared state, so importing must not switch the GIL back on.
# autotestdict: the stub describes all that the module has.
# setup.py turns boundscheck, initializedcheck and wraparound off, for every index comes from the
# length of validated columns. A debug build turns the checks on, so they cannot be fixed here: a
# directive in this file would win.
#
# Design
#   1. One inline C function computes one item; it takes and returns plain numbers.
#   2. The def function walks the batch in one `with nogil:` block. Only that block releases the
#      GIL: a `nogil` signature merely permits it.
#   3. Every C function is `noexcept`; otherwise its caller would look for an exception, with the
#      GIL, after every call.
"""The `cython` kernel of `loops`: same contract as `_python`."""

from libc.math cimport cos, sin, sqrt
from libc.stdint cimport int64_t, uint64_t

INSTRUCTION_SET = None
RELEASES_GIL = True


def warm_up() -> None:
    """Do nothing: this kernel is ready once imported."""


cdef inline double loop_item(double start, int64_t cpu_iterations) noexcept nogil:
    cdef double acc = 0.0
    cdef double t
    cdef int64_t i
    for i in range(cpu_iterations):
        t = start + <double>i
        acc += sqrt(t) * sin(t) * cos(t)
    return acc


# i * j < 10**10 and start < 2**31, so a term is below 2**34 and, with at most 10**9 terms, a sum is
# below 2**40. Unsigned, so that even an offset overwritten during the run has a defined result.
cdef inline int64_t nested_item(
    uint64_t start, uint64_t outer_iterations, uint64_t inner_iterations
) noexcept nogil:
    cdef uint64_t total = 0
    cdef uint64_t i, j
    for i in range(outer_iterations):
        for j in range(inner_iterations):
            total += (i * j + start) % 1000
    return <int64_t>total


def loop(const double[::1] value, int64_t cpu_iterations, double[::1] out):
    """Same contract as `_python.loop`; releases the GIL for the whole batch."""
    cdef Py_ssize_t index
    with nogil:
        for index in range(value.shape[0]):
            out[index] = loop_item(value[index], cpu_iterations)


def nested(
    const int64_t[::1] offset,
    int64_t outer_iterations,
    int64_t inner_iterations,
    int64_t[::1] out,
):
    """Same contract as `_python.nested`; releases the GIL for the whole batch."""
    cdef Py_ssize_t index
    with nogil:
        for index in range(offset.shape[0]):
            out[index] = nested_item(
                <uint64_t>offset[index], <uint64_t>outer_iterations, <uint64_t>inner_iterations
            )
