"""The science on plain data: rewards, advantages, curricula, training rows, metrics."""
