"""Comparisons: strategy × kernel, measured side by side so that the figures can be trusted.

`record` is what is known so far, `planning` and `projection` decide what is measured next and on
how many items, `loop` measures it in order, `verdict` says what follows; none of these does I/O.
`measuring`, `execution` and `service` are the ends towards the machine.
"""
