"""Which episodes an evaluation plays, the numbers of what was played, and τ²-bench's own results format."""
