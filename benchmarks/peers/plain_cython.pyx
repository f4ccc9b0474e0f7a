# cython: language_level=3, boundscheck=False, initializedcheck=False, wraparound=False
"""Plain Cython: typed loops, and sin and cos of the C library."""

from libc.math cimport cos, sin, sqrt
from libc.stdint cimport int64_t, uint64_t


def loop(const double[::1] value, int64_t cpu_iterations, double[::1] out):
    """Fill `out` item by item."""
    cdef Py_ssize_t index
    cdef int64_t i
    cdef double acc, t
    with nogil:
        for index in range(value.shape[0]):
            acc = 0.0
            for i in range(cpu_iterations):
                t = value[index] + <double>i
                acc += sqrt(t) * sin(t) * cos(t)
            out[index] = acc


def nested(
    const int64_t[::1] offset,
    int64_t outer_iterations,
    int64_t inner_iterations,
    int64_t[::1] out,
):
    """Fill `out` item by item."""
    cdef Py_ssize_t index
    cdef uint64_t start, total, i, j
    with nogil:
        for index in range(offset.shape[0]):
            start = <uint64_t>offset[index]
            total = 0
            for i in range(<uint64_t>outer_iterations):
                for j in range(<uint64_t>inner_iterations):
                    total += (i * j + start) % 1000
            out[index] = <int64_t>total
