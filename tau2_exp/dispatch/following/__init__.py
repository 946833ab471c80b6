"""The state of runs, wherever they run: status, cancel, logs."""
