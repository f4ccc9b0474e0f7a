"""Sources of an item's columns: the items themselves, and the I/O stages in front of them."""
