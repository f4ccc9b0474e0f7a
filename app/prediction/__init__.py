"""What a run will take: constants of the machine, the cost model, plans and recommendations."""
