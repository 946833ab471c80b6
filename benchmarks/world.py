"""What a world costs: a gold episode with its verdict in CPU milliseconds, the score after a turn, memory kept.

    python benchmarks/world.py [--tasks N] [--provider auto|inspect|sierra]

Beside it τ²-bench's own path (build, gold actions, evaluate), where its package is installed; its median is of
a few tasks, as one takes up to a second and a half.
"""

from __future__ import annotations

import argparse
import statistics
import time
import tracemalloc
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from tau2_exp.config import Provider
from tau2_exp.domains import TauDomain, load_domain
from tau2_exp.domains.providers import sierra_installed
from tau2_exp.types import Message, Role, StopReason, Task, ToolCall

LIMITS = {"airline": 2.0, "retail": 2.0, "telecom": 5.0}  # milliseconds an episode, in the median
PEER_TASKS = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, help="of each domain's base split, the first so many")
    parser.add_argument("--provider", type=Provider, choices=list(Provider), default=Provider.auto)
    args = parser.parse_args()
    table = Table("domain", "tasks", "episode ms", "bound", "score ms", "KB a world", "τ²-bench ms", "ratio")
    for name, bound in LIMITS.items():
        domain = load_domain(name, args.provider)
        tasks = domain.tasks("base")[: args.tasks]
        own = median(lambda task, domain=domain: episode(domain, task), tasks)
        peer = median(sierra_episode(name), tasks[:PEER_TASKS]) if sierra_installed() else None
        row = [name, str(len(tasks)), f"{own:.2f}", f"{bound:.0f}", f"{score(domain, tasks):.2f}"]
        row += [
            f"{memory(domain, tasks[:50]):.0f}",
            *(["-", "-"] if peer is None else [f"{peer:.0f}", f"{peer / own:.0f}×"]),
        ]
        table.add_row(*row)
    Console().print(table)
    if not sierra_installed():
        print("τ²-bench's own path: not measured, its package (the extra 'tau2') is not installed")


def median(run: Callable[[Task], object], tasks: list[Task]) -> float:
    """CPU milliseconds of the median task, each run once before."""
    found = []
    for task in tasks:
        run(task)
        start = time.process_time()
        run(task)
        found.append(1e3 * (time.process_time() - start))
    return statistics.median(found)


def episode(domain: TauDomain, task: Task) -> object:
    world = domain.world(task)
    messages: list[Message] = []
    for action in task.criteria.actions or ():
        call = ToolCall(action.name, action.arguments, action.requestor)
        messages += [Message(action.requestor, tool_calls=(call,)), world.call(call)]
    messages.append(Message(Role.ASSISTANT, " ".join(task.criteria.communicate or ("Done.",))))
    verdict = world.verdict(messages, StopReason.USER_STOP)
    assert verdict.reward == 1.0, task.id
    return world


def score(domain: TauDomain, tasks: list[Task]) -> float:
    """CPU milliseconds of `parts` after a turn, in the median."""
    found = []
    for task in tasks:
        world = domain.world(task)
        messages: list[Message] = []
        for action in task.criteria.actions or ():
            call = ToolCall(action.name, action.arguments, action.requestor)
            messages += [Message(action.requestor, tool_calls=(call,)), world.call(call)]
            start = time.process_time()
            world.parts(messages)
            found.append(1e3 * (time.process_time() - start))
    return statistics.median(found)


def memory(domain: TauDomain, tasks: list[Task]) -> float:
    """KB that a world keeps after its gold episode."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    worlds = [episode(domain, task) for task in tasks]
    kept = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return kept / len(worlds) / 1024


def sierra_episode(name: str) -> Callable[[Task], None]:
    """τ²-bench's own way through the same episode, by its public classes."""
    from loguru import logger

    logger.disable("tau2")
    from importlib import import_module

    from tau2.data_model.message import AssistantMessage, UserMessage
    from tau2.data_model.message import ToolCall as SierraCall
    from tau2.evaluator.evaluator_action import ActionEvaluator
    from tau2.evaluator.evaluator_communicate import CommunicateEvaluator
    from tau2.evaluator.evaluator_env import EnvironmentEvaluator

    module = import_module(f"tau2.domains.{name}.environment")
    tasks = {task.id: task for task in module.get_tasks("base")}
    speakers = {"assistant": AssistantMessage, "user": UserMessage}

    def run(ours: Task) -> None:
        task = tasks[ours.id]
        start = task.initial_state
        environment = module.get_environment()
        environment.set_state(
            start.initialization_data if start else None, (start.initialization_actions if start else None) or [], []
        )
        messages = []
        for action in task.evaluation_criteria.actions or []:
            call = SierraCall(id="", name=action.name, arguments=action.arguments, requestor=action.requestor)
            said = speakers[action.requestor](role=action.requestor, content=None, tool_calls=[call])
            messages += [said, environment.get_response(call)]
        EnvironmentEvaluator.calculate_reward(module.get_environment, task, messages)
        ActionEvaluator.calculate_reward(task, messages)
        CommunicateEvaluator.calculate_reward(task, messages)

    return run


if __name__ == "__main__":
    main()
