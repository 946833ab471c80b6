"""Which episodes an evaluation runs, the numbers of those that were run, and τ²-bench's own results format."""
