"""Engines: `torch` (one process, a CPU or one GPU) and `slime` (Ray, Megatron and SGLang on many GPUs)."""
