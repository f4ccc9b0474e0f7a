"""The check of own kernels, held against modules that are known to be wrong or right."""
