"""The table that the reference pipeline published, and how many tasks each of its numbers can be of."""

from __future__ import annotations

from dataclasses import dataclass

CITATION = (
    "Jarrod Barnes, Training Multi-Turn Tool-Use Agents with GRPO, with Qwen3-4B-Instruct-2507 and its checkpoint "
    "Qwen3-4B-tau2-grpo-v1; user simulators are the pipeline's own"
)


@dataclass(frozen=True)
class Published:
    """One row, in percent of tasks; `tasks` is what its overall number fits, or says that none was given."""

    row: str
    stage: str  # of ours that it stands beside
    measure: str
    overall: float | None
    airline: float
    retail: float
    telecom: float
    tasks: str


PUBLISHED = (
    Published("base model", "model", "pass@1", 14.3, 5.0, 16.0, 20.0, "10 of 70 tasks: 20 + 25 + 25"),
    Published("SFT", "sft", "pass@1", 8.57, 5.0, 20.0, 0.0, "6 of 70"),
    Published("SFT + RFT", "rft", "pass@1", 27.0, 20.0, 50.0, 7.5, "27 of 100 tasks: 20 + 40 + 40"),
    Published("GRPO", "grpo", "pass@1", 32.9, 15.0, 76.0, 4.0, "23 of 70"),
    Published("GRPO", "grpo", "pass@4", 57.1, 50.0, 76.0, 44.0, "40 of 70"),
    Published("GRPO, model card", "grpo", "pass@1", None, 15.0, 55.0, 27.5, "not given; domains fit 20 + 40 + 40"),
    Published("GRPO, model card", "grpo", "pass@4", None, 45.0, 85.0, 40.0, "not given; domains fit 20 + 40 + 40"),
)
