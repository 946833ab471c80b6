"""Runs as SLURM jobs: arrays, submission, the queue."""
