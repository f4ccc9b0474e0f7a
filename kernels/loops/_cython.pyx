# cython: language_level=3, freethreading_compatible=True, autotestdict=False
#
# freethreading_compatible: nothing here changes once imported, so importing must not switch the GIL
# back on.
# autotestdict: the stub describes all that the module has.
# setup.py turns boundscheck, initializedcheck and wraparound off, for every index comes from the
# length of validated columns. A debug build turns the checks on, so they cannot be fixed here: a
# directive in this file would win.
#
# Design
#   1. The arithmetic is in `_lanes.h`: C, because the same functions are compiled once for each
#      instruction set. They take and return plain numbers.
#   2. Items stand side by side in lanes, LANES at a time; each keeps its own order of additions.
#      What is left over is computed item by item, its terms side by side, with the same bits.
#   3. The methods walk the batch in one `with nogil:` block. Only that block releases the GIL: a
#      `nogil` signature merely permits it.
#   4. Every C function is `noexcept`; otherwise its caller would look for an exception, with the
#      GIL, after every call.
"""The `cython` kernel of `loops`: same contract as `_python`."""

cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t

from types import MappingProxyType as _MappingProxyType

cdef extern from "_lanes.h" nogil:
    enum:
        LANES

    ctypedef struct hotloop_level:
        const char *name
        void (*loop_lanes)(
            const double *start, int64_t cpu_iterations, double *acc
        ) noexcept nogil
        double (*loop_item)(double start, int64_t cpu_iterations) noexcept nogil
        uint64_t (*nested_item)(
            uint32_t start, uint32_t outer_iterations, uint32_t inner_iterations
        ) noexcept nogil

    int hotloop_usable_levels(const hotloop_level **levels) noexcept


@cython.final
cdef class Lanes:
    """Both functions, for the instruction set of this name, one of `INSTRUCTION_SETS`."""

    cdef const hotloop_level *level

    def __cinit__(self, str instruction_set):
        cdef const hotloop_level *levels[3]
        cdef int index
        for index in range(hotloop_usable_levels(levels)):
            if levels[index].name.decode() == instruction_set:
                self.level = levels[index]
        if self.level == NULL:
            raise ValueError(f"no instruction set {instruction_set!r} on this machine")

    def __reduce__(self):
        return Lanes, (self.level.name.decode(),)

    def loop(self, const double[::1] value, int64_t cpu_iterations, double[::1] out):
        """Same contract as `_python.loop`; releases the GIL for the whole batch."""
        cdef const hotloop_level *level = self.level
        cdef double start[LANES]
        cdef double acc[LANES]
        cdef Py_ssize_t size = value.shape[0]
        cdef Py_ssize_t index = 0
        cdef int lane
        with nogil:
            while index + LANES <= size:
                for lane in range(LANES):
                    start[lane] = value[index + lane]
                level.loop_lanes(start, cpu_iterations, acc)
                for lane in range(LANES):
                    out[index + lane] = acc[lane]
                index += LANES
            for index in range(index, size):
                out[index] = level.loop_item(value[index], cpu_iterations)

    def nested(
        self,
        const int64_t[::1] offset,
        int64_t outer_iterations,
        int64_t inner_iterations,
        int64_t[::1] out,
    ):
        """Same contract as `_python.nested`; releases the GIL for the whole batch."""
        cdef const hotloop_level *level = self.level
        cdef Py_ssize_t index
        with nogil:
            for index in range(offset.shape[0]):
                out[index] = <int64_t>level.nested_item(
                    <uint32_t>offset[index],
                    <uint32_t>outer_iterations,
                    <uint32_t>inner_iterations,
                )


cdef dict _usable():
    cdef const hotloop_level *levels[3]
    cdef int index
    names = [levels[index].name.decode() for index in range(hotloop_usable_levels(levels))]
    return {name: Lanes(name) for name in names}


INSTRUCTION_SETS = _MappingProxyType(_usable())

_best = next(iter(INSTRUCTION_SETS.values()))
loop = _best.loop
nested = _best.nested


def warm_up() -> None:
    """Do nothing: this kernel is ready once imported."""
