"""The seams: one small Protocol a file. Implementations stand in the room of the same plural name."""
