"""What slime calls within its own processes."""
