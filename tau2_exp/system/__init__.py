"""Processes, allocations and commands: what this machine offers, and what is started on it."""
