"""Users' own workloads: imported and examined in child processes, known to the API as data."""
