"""Five workloads of one's own: each module has one plain function, declared to Hotloop."""
