"""Paths within the folder of a run that slime trains."""

from __future__ import annotations

MODEL = "checkpoints/last"  # in Hugging Face's format, as every engine leaves it: what the next stage starts from
BASE = "slime/base"  # the model that training begins with, in Megatron's format
CHECKPOINTS = "slime/checkpoints"  # slime's own
SETTINGS = "slime/config.yaml"  # whose keys slime sets onto its arguments
TASKS = "slime/tasks.jsonl"  # one line a training task, for slime's --prompt-data
ROWS = "slime/rows.jsonl"  # what SFT and RFT train on
SUMMARY = "slime/summary.json"  # what was learned from
