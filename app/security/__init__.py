"""Who a client is and what it may do; knows no HTTP."""
