"""Builds the compiled kernel. Everything that TOML can say is in pyproject.toml."""

import os
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError

DEBUG = os.environ.get("HOTLOOP_BUILD_DEBUG") == "1"
REQUIRED = os.environ.get("HOTLOOP_REQUIRE_CYTHON") == "1"

# No contraction into fused multiply-add, no -march=native, no -ffast-math: kernels must agree to
# the bit, on every machine. Without errno a square root is one instruction, with the same result.
FLAGS = ["-O1" if DEBUG else "-O3", "-ffp-contract=off", "-fno-math-errno", "-Wall"]

WARNING = """
{line}
hotloop: the cython kernel was NOT built: {error}
Everything else works, and the python and numba kernels are there. To get it, install a C compiler
and the Python headers, and install again. HOTLOOP_REQUIRE_CYTHON=1 makes this an error.
{line}
"""


class BuildKernels(build_ext):
    """Does without the extension where it cannot be compiled, loudly, unless it is required."""

    # What an earlier build left is removed first: it must not pass for the result of this one.

    def build_extension(self, ext: Extension) -> None:
        Path(self.get_ext_fullpath(ext.name)).unlink(missing_ok=True)
        try:
            super().build_extension(ext)
        except (CCompilerError, BaseError) as error:
            if REQUIRED:
                sys.exit(f"hotloop: HOTLOOP_REQUIRE_CYTHON=1, but no {ext.name} was built: {error}")
            print(WARNING.format(line="!" * 100, error=error), file=sys.stderr, flush=True)

    def copy_extensions_to_source(self) -> None:
        for extension in self.extensions:
            Path(self.get_ext_filename(extension.name)).unlink(missing_ok=True)
        super().copy_extensions_to_source()


NAMES = ("_cython.pyx", "_lanes.h", "_lanes_arithmetic.h", "_lanes_fma.h")
SOURCES = [f"kernels/loops/{name}" for name in NAMES]
extensions = cythonize(
    # `depends` takes the sources along to the build folder, and into a source distribution.
    [
        Extension(
            "hotloop.kernels.loops._cython", SOURCES[:1], depends=SOURCES, extra_compile_args=FLAGS
        )
    ],
    build_dir="build/cython",
    force=True,
    annotate=DEBUG,
    compiler_directives={"boundscheck": DEBUG, "initializedcheck": DEBUG, "wraparound": False},
)
extensions[0].optional = True  # cythonize() drops it; it lets an in-place build go on without

setup(ext_modules=extensions, cmdclass={"build_ext": BuildKernels})
