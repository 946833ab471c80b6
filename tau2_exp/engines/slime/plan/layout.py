"""Which GPUs do what: those that train, those that roll out, and those of the user simulator.

The user simulator has the last GPUs of the first node. Of the other nodes slime takes as many as of the first, since
it counts in nodes of one size. Where training and rollouts take turns, both have all of these; else training has
the first of them, in slime's order (node by node), and the rollouts have the others.
"""

from __future__ import annotations

from dataclasses import dataclass

from tau2_exp.config import Config, GrpoConfig, StageConfig


@dataclass(frozen=True)
class Layout:
    """The GPUs of one stage: how many each part has, and which of the first node's serve models outside slime."""

    nodes: int
    per_node: int  # GPUs of each node that slime has
    train: int  # GPUs, of all nodes, that train
    rollout: int  # GPUs, of all nodes, that roll out; 0: this stage has no rollouts of slime's
    server: int  # GPUs of one SGLang server
    colocate: bool
    policy: tuple[int, ...]  # the first node's GPUs that serve the policy where slime does not run
    user: tuple[int, ...]  # the first node's GPUs of the user simulator

    @property
    def servers(self) -> int:
        """How many SGLang servers slime's rollouts have."""
        return max(1, self.rollout // self.server)


def make_layout(config: Config, stage: StageConfig) -> Layout:
    """The layout of one stage. Nothing here is checked."""
    hardware, server = config.hardware, config.engine.slime.server_gpus
    left = hardware.gpus - user_gpus(config)
    policy, user = tuple(range(left)), tuple(range(left, hardware.gpus))
    if not isinstance(stage, GrpoConfig):  # no user is up while it trains
        total = hardware.nodes * hardware.gpus
        return Layout(hardware.nodes, hardware.gpus, total, 0, server, False, policy, user)
    total = hardware.nodes * left
    if hardware.colocate:
        return Layout(hardware.nodes, left, total, total, server, True, policy, user)
    train = hardware.nodes * train_gpus(config)
    return Layout(hardware.nodes, left, train, total - train, server, False, policy, user)


def user_gpus(config: Config) -> int:
    """GPUs of the user simulator; 0 where none is served."""
    if not config.user.serve:
        return 0
    given = config.hardware.user_gpus
    return config.hardware.gpus // 2 if given is None else given


def train_gpus(config: Config) -> int:
    """GPUs of each node that train where training and rollouts share none; the user's are not counted."""
    given = config.hardware.train_gpus
    return (config.hardware.gpus - user_gpus(config)) // 2 if given is None else given


def data_parallel(config: Config, layout: Layout) -> int:
    """Copies of the model that train side by side."""
    slime = config.engine.slime
    return layout.train // (slime.tensor_parallel * slime.pipeline_parallel * slime.context_parallel)
