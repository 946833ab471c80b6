"""A run's folder: settings, manifest, content address, progress, and the W&B copy of it."""
