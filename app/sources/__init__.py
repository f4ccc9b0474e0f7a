"""Where an item's columns come from: the items themselves, and the I/O stages in front of them."""
