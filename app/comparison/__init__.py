"""Comparisons: strategy × kernel, measured side by side so that the figures can be trusted.

`record` keeps the measurements so far, `planning` and `projection` choose the cells and their
items, `loop` measures them in order, and `verdict` judges; none of these does I/O. `measuring`,
`execution` and `service` connect them to run hosts and the store.
"""
