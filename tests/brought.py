"""What tests bring by dotted paths: one of each, and some that will not do."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from tau2_exp.domains import PythonDomain, PythonTask
from tau2_exp.learning.curriculum import Curriculum
from tau2_exp.learning.reward import standard_score
from tau2_exp.policies.oracle import GoldAgent
from tau2_exp.types import Message, Role, ToolCall, Usage

NUMBER = 3


class Silent:
    """A user that hangs up."""

    name = "silent"

    def __init__(self, task, world, config, seed):
        self.usage = Usage()

    async def reply(self, heard):
        return Message(Role.USER, "###STOP###")


class Gold:
    name = "gold"

    def __init__(self, config, sampling):
        pass

    def make_agent(self, world, spec):
        return GoldAgent(spec.task)


class Notes:
    """A logger that raises when the run has finished."""

    def __init__(self, config, folder):
        self.lines = (folder / "notes.txt").open("w")

    def log(self, metrics, step):
        print(step, file=self.lines, flush=True)

    def episodes(self, files):
        raise RuntimeError("the disk is full")

    def summary(self, results):
        pass

    def finish(self, failed):
        self.lines.close()


def score(trajectory, config):
    """Short episodes earn more."""
    reward = standard_score(trajectory, config)
    return replace(reward, shaped=reward.shaped - 0.01 * len(trajectory.turns))


def by_turn(trajectories, rewards, config):
    """The last turn of the better half is credited."""
    mean = sum(reward.shaped for reward in rewards) / len(rewards)
    return [
        [0.0] * (len(trajectory.turns) - 1) + [reward.shaped - mean] if trajectory.turns else []
        for trajectory, reward in zip(trajectories, rewards, strict=True)
    ]


def nothing(trajectories, rewards, config):
    return [[0.0] * len(trajectory.turns) for trajectory in trajectories]


def curriculum(keys, config, seed):
    return Curriculum(keys, config, seed)


class Rotating:
    """A curriculum with a state: each task in turn, and those seen twice count half."""

    def __init__(self, keys, config, seed):
        self.keys, self.place, self.seen = list(keys), 0, dict.fromkeys(keys, 0)

    def draw(self, n, exclude=()):
        drawn = [self.keys[(self.place + i) % len(self.keys)] for i in range(n)]
        self.place += n
        return drawn

    def record(self, key, outcomes):
        self.seen[key] += 1

    def weight(self, key):
        return 0.5 if self.seen[key] > 1 else 1.0

    def state(self):
        return {"place": self.place, "seen": self.seen}

    def restore(self, state):
        self.place, self.seen = state["place"], state["seen"]


async def stage(context):
    return {"tasks": len(context.tasks("train"))}


# ---------------------------------------------------------------- what will not do


def one_argument(trajectory):
    return None


def raises(*arguments):
    raise KeyError("lost")


def no_reward(trajectory, config):
    return 1.0


def too_few(trajectories, rewards, config):
    return [[] for _ in trajectories]


class Mute:
    """A user without a word."""

    def __init__(self, task, world, config, seed):
        pass


class Blocking(Silent):
    """A user whose reply is no coroutine."""

    def reply(self, heard):
        return None


class Repeats:
    """A curriculum that draws what it was not given."""

    def __init__(self, keys, config, seed):
        pass

    def draw(self, n, exclude=()):
        return ["moon/1"] * n

    def record(self, key, outcomes):
        pass

    def weight(self, key):
        return 1.0

    def state(self):
        return {"seen": {1, 2}}

    def restore(self, state):
        pass


# ---------------------------------------------------------------- domains


@dataclass
class Lamp:
    on: bool = False
    rooms: dict[str, int] = field(default_factory=lambda: {"hall": 20, "attic": 10})


def heat(state: Lamp, room: str, degrees: int) -> dict[str, int]:
    """Heat a room.

    Args:
        room: its name.
        degrees: the temperature, in degrees Celsius.
    """
    if room not in state.rooms:
        raise ValueError(f"there is no {room}")
    state.rooms[room] = degrees
    return state.rooms


def switch(state: Lamp) -> str:
    """Switch the lamp."""
    state.on = not state.on
    return "on" if state.on else "off"


class House(PythonDomain):
    """Its state is a dataclass, and its user has a tool."""

    name = "house"
    policy = "Do what is asked."
    state = Lamp()
    agent_tools = (heat,)
    user_tools = (switch,)

    def make_tasks(self):
        warm = ToolCall("heat", {"room": "attic", "degrees": 18})
        light = ToolCall("switch", {}, Role.USER)
        tasks = [
            PythonTask("path", "You are cold, and it is dark.", actions=[warm, light]),
            PythonTask("goal", "You are cold.", goal={"rooms": {"attic": 18, "hall": 18}}),
            PythonTask("told", "You want to know the time.", start={"on": True}, say=["noon"]),
            PythonTask("own", "You want it warm."),
        ]
        return {"train": tasks, "test": tasks[:1]}

    def verdict(self, task, state, messages):
        return min(state.rooms.values()) / 20 if task.id == "own" else None


class Unnamed(House):
    name = "telecom"


class Lost(House):
    def make_tasks(self):
        return {"train": [PythonTask("x", "Hello.", actions=[ToolCall("heat", {"room": "cellar", "degrees": 1})])]}


class Untold(House):
    agent_tools = (heat, lambda state: "done")


class Unjudged(PythonDomain):
    name = "unjudged"
    policy = ""
    state = Lamp()

    def make_tasks(self):
        return {"train": [PythonTask("x", "Hello.")]}


def variety(trajectory, config):
    """Episodes that say more characters earn more: a model that has learned nothing has a signal."""
    reward = standard_score(trajectory, config)
    said = {letter for turn in trajectory.turns for letter in turn.text}
    return replace(reward, shaped=reward.shaped + 0.01 * len(said))
