"""The episode loop, many episodes at once, and what they need of a run."""
