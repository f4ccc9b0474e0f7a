"""Models of requests and responses. Times are UTC, durations seconds, sizes bytes."""
