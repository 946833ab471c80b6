"""What a GPU makes of the torch engine, by one command without network: see docs/gpu-check.md."""
