"""Users' own functions as workloads: declarations, kernels derived from functions, and versions.

`hotloop.workload` makes a workload of a function; nothing here imports a compiler before a kernel
is asked for.
"""
