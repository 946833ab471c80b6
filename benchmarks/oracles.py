"""How many tasks do the oracles solve with the scripted user, and how long are their dialogues?

    python benchmarks/oracles.py

The workflow oracle, which reads only the conversation, plays every telecom task: train, test, and the 2171
development tasks; the gold oracle the base tasks of each domain. About a minute of CPU.
"""

from __future__ import annotations

import asyncio
import time
from statistics import mean

from tau2_exp.config import OracleKind, RolloutConfig
from tau2_exp.domains import load_domain
from tau2_exp.policies.oracle import OraclePolicy
from tau2_exp.rollouts.episode import Limits
from tau2_exp.rollouts.rollout import EpisodeSetting, rollout
from tau2_exp.types import EpisodeSpec, Trajectory
from tau2_exp.users.scripted import ScriptedUser

PLAYS = [
    *((OracleKind.workflow, "telecom", split) for split in ("train", "test", "development")),
    *((OracleKind.gold, domain, "base") for domain in ("telecom", "airline", "retail")),
]


def main() -> None:
    print(
        f"{'oracle':9} {'domain':8} {'split':12} {'solved':>11} {'turns':>11} {'steps':>11} {'words':>6} {'CPU ms':>7}"
    )
    for kind, name, split in PLAYS:
        domain = load_domain(name)
        setting = EpisodeSetting(
            domain.world, lambda spec, world: ScriptedUser(spec.task, world), Limits(), RolloutConfig()
        )
        specs = [EpisodeSpec(task, 0, 0, index) for index, task in enumerate(domain.tasks(split))]
        started = time.process_time()
        trajectories = asyncio.run(rollout(setting, OraclePolicy(kind), specs))
        report(f"{kind.value:9} {name:8} {split:12}", trajectories, time.process_time() - started)


def report(label: str, trajectories: list[Trajectory], seconds: float) -> None:
    solved = sum(t.outcome == 1.0 for t in trajectories)
    turns, steps = [len(t.turns) for t in trajectories], [t.steps for t in trajectories]
    words = mean(sum(len((m.content or "").split()) for m in t.messages) for t in trajectories)
    print(
        f"{label} {f'{solved}/{len(trajectories)}':>11} {f'{mean(turns):.1f} (≤{max(turns)})':>11} "
        f"{f'{mean(steps):.1f} (≤{max(steps)})':>11} {words:6.0f} {1000 * seconds / len(trajectories):7.1f}"
    )


if __name__ == "__main__":
    main()
