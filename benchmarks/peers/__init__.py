"""What else one would write for the workload `loops`: the rivals of our kernels.

Each peer has `loop(value, cpu_iterations, out)` and `nested(offset, outer_iterations,
inner_iterations, out)`, as the kernels have. None is part of the package.
"""
