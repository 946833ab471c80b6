"""Train multi-turn tool-use agents on τ²-bench: SFT, rejection sampling, GRPO with shaped rewards."""

__version__ = "0.1.0"
