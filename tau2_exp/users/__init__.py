"""Who the agent talks to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tau2_exp.config import UserConfig, UserKind

if TYPE_CHECKING:
    from tau2_exp.interfaces import User, World
    from tau2_exp.llm.completion import Account
    from tau2_exp.types import Task


def make_user(
    task: Task,
    world: World,
    guidelines: str,
    config: UserConfig,
    seed: int = 0,
    account: Account | None = None,
) -> User:
    """The user of one episode; `seed` is the episode's, `guidelines` the prompt of a model that is the user."""
    if config.function is not None:
        from tau2_exp.plugins import make

        return make("user.function", config.function, task, world, config, seed)
    if config.kind is UserKind.scripted:
        from tau2_exp.users.scripted import ScriptedUser

        return ScriptedUser(task, world)
    from tau2_exp.users.litellm import LitellmUser

    return LitellmUser(task, world, guidelines, config, seed, account)
