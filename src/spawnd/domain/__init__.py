"""What a run is: states, failures, facts, decisions. Pure: no I/O, no clock, no randomness of its own."""
