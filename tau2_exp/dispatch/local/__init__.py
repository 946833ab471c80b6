"""Runs as processes of this machine, one or side by side."""
