"""What a run is: a graph, its events, the state they add up to, and the plan of what comes next.

Nothing here waits, reads a clock or uses random numbers: a run can be replayed anywhere from its events alone.
"""
