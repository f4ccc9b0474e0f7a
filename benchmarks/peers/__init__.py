"""Rivals of our kernels: other ways to write the workload `loops`.

Each peer has `loop(value, cpu_iterations, out)` and `nested(offset, outer_iterations,
inner_iterations, out)`, as the kernels have. None is part of the package.
"""
