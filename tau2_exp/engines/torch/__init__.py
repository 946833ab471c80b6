"""The torch engine: training and generation in one process, on a CPU or one GPU."""
