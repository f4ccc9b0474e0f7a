"""Compiles a peer written in Cython, for as long as a benchmark needs it."""

from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from Cython.Build import cythonize
from setuptools import Distribution, Extension

__all__ = ["build_cython_peer"]

# As our own extension is built, less what only our arithmetic gains from.
FLAGS = ["-O3", "-ffp-contract=off"]


def build_cython_peer(name: str, folder: Path) -> ModuleType:
    """Return the module of `name`.pyx beside this file, compiled into `folder`.

    Raises the errors of setuptools where there is no compiler.
    """
    source = Path(__file__).with_name(f"{name}.pyx")
    extensions = cythonize(
        [Extension(name, [str(source)], extra_compile_args=FLAGS)],
        build_dir=str(folder),
        quiet=True,
    )
    command = Distribution({"ext_modules": extensions}).get_command_obj("build_ext")
    command.build_lib = command.build_temp = str(folder)
    command.ensure_finalized()
    command.run()
    path = command.get_ext_fullpath(name)
    spec = spec_from_file_location(name, path, loader=ExtensionFileLoader(name, path))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
