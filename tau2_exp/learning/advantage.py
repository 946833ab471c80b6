"""A group of rewards → two terms of credit for each turn; a step's groups → their advantages, on one scale.

Group-relative advantages are GRPO's (Shao et al. 2024, DeepSeekMath, arXiv:2402.03300).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from tau2_exp.config import Baseline, RewardConfig, RewardKind
from tau2_exp.learning.baseline import NOTHING, less_others, rounded
from tau2_exp.learning.branching import branch_credit
from tau2_exp.learning.states import anchor_states, by_state, world_states
from tau2_exp.plugins import PluginError, call
from tau2_exp.types import Reward, Trajectory

Turns = tuple[float, ...]  # one number a turn of one trajectory
Group = Sequence[tuple[Trajectory, Reward]]


@dataclass(frozen=True, slots=True)
class Scale:
    """What a step's terms are divided by: the rms of each over all turns of the step, or 1."""

    episode: float = 1.0
    turn: float = 1.0


@dataclass(frozen=True, slots=True)
class GroupCredit:
    """The credit of one group's trajectories, in their order, before the step's scale.

    `episode` is what each turn gets for its episode's outcome, `turn` what it gets for itself, which counts `alpha`
    times. `relative` is each episode's outcome less its group's mean, whatever the kind of reward. `matched` tells the
    turns that began in a state in which another episode of the group was too; empty where no states are compared.
    """

    episode: list[Turns]
    turn: list[Turns]
    alpha: list[float]
    relative: list[float]
    matched: list[tuple[bool, ...]] = field(default_factory=list)
    scaled: bool = False  # whether the terms are divided by their rms over the step
    first: list[int] = field(default_factory=list)  # of each trajectory, the first turn of its own; empty: 0
    weights: list[Turns] = field(default_factory=list)  # how much each turn counts in training; empty: 1

    @property
    def signal(self) -> bool:
        """Whether any term of the group is not 0, so that there is something to learn, whatever the step's scale."""
        own = self.own(Scale())
        return any(number != 0.0 for terms in (self.episode, own) for turns in terms for number in turns)

    def advantages(self, scale: Scale) -> list[Turns]:
        """The advantages of each trajectory: one number a turn."""
        return [
            tuple(e / scale.episode + t for e, t in zip(episode, own, strict=True))
            for episode, own in zip(self.episode, self.own(scale), strict=True)
        ]

    def weighted(self, numbers: Sequence[Turns]) -> list[Turns]:
        """Numbers of each turn times its weight: of the advantages, what the step trains on."""
        if not self.weights:
            return list(numbers)
        pairs = zip(numbers, self.weights, strict=True)
        return [tuple(x * weight for x, weight in zip(turns, own, strict=True)) for turns, own in pairs]

    def trained(self, numbers: Sequence[Turns]) -> Iterator[float]:
        """The numbers of the turns that are trained on: a continuation's prefix is not."""
        first = self.first or [0] * len(numbers)
        return (number for turns, start in zip(numbers, first, strict=True) for number in turns[start:])

    def own(self, scale: Scale) -> list[Turns]:
        """What of each turn's advantage is the turn's own."""
        return [tuple(alpha * t / scale.turn for t in turn) for turn, alpha in zip(self.turn, self.alpha, strict=True)]


def group_credit(group: Group, config: RewardConfig) -> GroupCredit:
    """The credit of one task's scored trajectories, by `reward.credit` or by the reward's kind.

    A group of one has nothing to be compared with: its credit is 0. Raises PluginError where the user's function gives
    other than one finite number for each turn of each trajectory.
    """
    relative = _relative([reward.outcome for _, reward in group], over_deviation=False)
    if config.credit is not None and group:
        own = _own_credit(group, config)
        return GroupCredit([(0.0,) * len(turns) for turns in own], own, [1.0] * len(own), relative)
    nothing = [(0.0,) * len(reward.progress) for _, reward in group]
    if len(group) < 2:
        return GroupCredit(nothing, nothing, [0.0] * len(group), relative)
    if config.kind is RewardKind.turn_level:
        return _turn_level(group, config, relative)
    if config.kind is RewardKind.anchor:
        return _anchor(group, config, relative)
    if config.kind is RewardKind.branch:
        return _branch(group)
    shaped = _relative([reward.shaped for _, reward in group], config.outcome_over_deviation)
    return GroupCredit(_spread(shaped, group), nothing, [0.0] * len(group), relative)


def step_scale(groups: Iterable[GroupCredit]) -> Scale:
    """The scale of a step, from the credit of all groups that it trains on."""
    scaled = [credit for credit in groups if credit.scaled]
    return Scale(
        rms(number for credit in scaled for number in credit.trained(credit.weighted(credit.episode))) or 1.0,
        rms(number for credit in scaled for number in credit.trained(credit.weighted(credit.turn))) or 1.0,
    )


def credit_metrics(groups: Sequence[GroupCredit], scale: Scale) -> dict[str, float]:
    """What a step tells of its credit; nothing where it trains on no turn.

    `credit_share` is the rms of the turns' own term over that of the advantages; `credit_sign` the share of turns
    whose advantage has the opposite sign of their episode's relative outcome; `credit_matched` the share of turns
    that began in a state in which another episode of the group was too, where states are compared. The rms by which
    each term was divided stand beside them: with them the advantages can be computed again.
    """
    turns = [
        told
        for credit in groups
        for told in zip(
            credit.trained(credit.advantages(scale)),
            credit.trained(credit.own(scale)),
            credit.trained([(r,) * len(t) for r, t in zip(credit.relative, credit.turn, strict=True)]),
            strict=True,
        )
    ]
    whole = rms(a for a, _, _ in turns)
    if not whole:
        return {}
    figures = {
        "credit_share": rms(own for _, own, _ in turns) / whole,
        "credit_sign": sum(a * relative < 0 for a, _, relative in turns) / len(turns),
        "credit_episode_rms": scale.episode,
        "credit_turn_rms": scale.turn,
    }
    matched = [met for credit in groups for own in credit.matched for met in own]
    return figures | ({"credit_matched": sum(matched) / len(matched)} if matched else {})


def rms(numbers: Iterable[float]) -> float:
    """√(mean x²); 0 of no numbers."""
    squares = [number * number for number in numbers]
    return math.sqrt(math.fsum(squares) / len(squares)) if squares else 0.0


# ---------------------------------------------------------------- kinds of reward


def _turn_level(group: Group, config: RewardConfig, relative: list[float]) -> GroupCredit:
    """The outcome (less penalties), and each turn's discounted return of progress, each less its baseline."""
    apart = all(trajectory.branch is None for trajectory, _ in group)
    families = range(len(group)) if apart else [trajectory.trunk for trajectory, _ in group]
    states = [world_states(trajectory) for trajectory, _ in group] if config.baseline is Baseline.state else None
    earned = [episode_return(reward) for _, reward in group]
    returns = [discounted(reward.progress, config.turn_discount) for _, reward in group]
    episode, matched = less_others(earned, _spread(earned, group), states, families)
    turn, _ = less_others([fmean(numbers) if numbers else None for numbers in returns], returns, states, families)
    alphas = [reward.alpha for _, reward in group]
    return GroupCredit(episode, turn, alphas, relative, matched if states else [], scaled=True)


def _anchor(group: Group, config: RewardConfig, relative: list[float]) -> GroupCredit:
    """The episode's relative outcome, and that of the turns of all episodes which began in the same state.

    GiGPO (Feng et al. 2025, arXiv:2505.10978): the turn's return is its episode's, discounted from the last turn on.
    The mean, and the deviation where it is asked for, span all turns of the state, the turn itself included; a turn
    alone in its state gets 0.
    """
    earned = [episode_return(reward) for _, reward in group]
    returns = [_at_the_end(own, len(reward.progress), config) for own, (_, reward) in zip(earned, group, strict=True)]
    states = [anchor_states(trajectory, config.anchor) for trajectory, _ in group]
    turn, matched = [[0.0] * len(numbers) for numbers in returns], [[False] * len(numbers) for numbers in returns]
    for places in by_state(states).values():
        compared = _relative([returns[i][t] for i, t in places], config.outcome_over_deviation)
        met = len({i for i, _ in places}) > 1
        for (i, t), number in zip(places, compared, strict=True):
            turn[i][t], matched[i][t] = number, met
    episode = _spread(_relative(earned, config.outcome_over_deviation), group)
    alphas = [reward.alpha for _, reward in group]
    return GroupCredit(episode, list(map(tuple, turn)), alphas, relative, list(map(tuple, matched)))


def _branch(group: Group) -> GroupCredit:
    """What playing on from before and after a turn tells of it (`branching`)."""
    outcomes = [episode_return(reward) for _, reward in group]
    trajectories = [trajectory for trajectory, _ in group]
    found = branch_credit(trajectories, outcomes)
    turn = [tuple(map(rounded, numbers)) for numbers in found.advantages]
    trunks = [outcome for t, outcome in zip(trajectories, outcomes, strict=True) if t.branch is None]
    mean = fmean(trunks) if trunks else 0.0
    return GroupCredit(
        episode=[(0.0,) * len(numbers) for numbers in turn],
        turn=turn,
        alpha=[1.0] * len(turn),
        relative=[outcome - mean for outcome in outcomes],
        scaled=True,
        first=[trajectory.first_turn for trajectory in trajectories],
        weights=found.weights,
    )


def _own_credit(group: Group, config: RewardConfig) -> list[Turns]:
    trajectories, rewards = [t for t, _ in group], [reward for _, reward in group]
    given = call("reward.credit", str(config.credit), trajectories, rewards, config)
    found = [tuple(float(number) for number in turns) for turns in given]
    wanted = [len(trajectory.turns) for trajectory in trajectories]
    if [len(turns) for turns in found] != wanted or not all(math.isfinite(a) for turns in found for a in turns):
        raise PluginError(
            f"reward.credit={config.credit}: must return finite numbers, {wanted} of them for the turns of "
            f"{len(wanted)} trajectories of {trajectories[0].key}; got {found}"
        )
    return found


# ---------------------------------------------------------------- numbers


def episode_return(reward: Reward) -> float:
    """The outcome less penalties: the reward without its partial score."""
    return reward.shaped - reward.alpha * reward.partial


def discounted(progress: Sequence[float], discount: float) -> Turns:
    """G_t = Σ_(s≥t) γ^(s−t) ΔΦ_s: the discounted progress still to come, its own turn's included, for each turn."""
    returns, to_go = [], 0.0
    for earned in reversed(progress):
        to_go = earned + discount * to_go
        returns.append(to_go)
    return tuple(returns[::-1])


def _at_the_end(earned: float, turns: int, config: RewardConfig) -> Turns:
    """The discounted return of each turn where all is earned by the last one."""
    return discounted([0.0] * (turns - 1) + [earned], config.turn_discount) if turns else ()


def _spread(numbers: Sequence[float], group: Group) -> list[Turns]:
    """One number an episode, for each of its turns."""
    return [(number,) * len(reward.progress) for number, (_, reward) in zip(numbers, group, strict=True)]


def _relative(values: Sequence[float], over_deviation: bool) -> list[float]:
    """Values less their mean, optionally over their sample deviation; zeros where they do not vary."""
    if len(values) < 2 or max(values) - min(values) < NOTHING:
        return [0.0] * len(values)
    mean = fmean(values)
    centred = [value - mean for value in values]
    if not over_deviation:
        return centred
    deviation = math.sqrt(math.fsum(c * c for c in centred) / (len(values) - 1))
    return [c / deviation for c in centred]
