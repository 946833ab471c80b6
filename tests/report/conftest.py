"""A browser, and one small study that several tests read: SFT, then GRPO in three arms, three seeds, each evaluated."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from browser import Browser, find_chromium
from studies import Settings, Study, make_study

from tau2_exp.config import RewardKind

ARMS: tuple[Settings, ...] = (
    {"kind": RewardKind.outcome},
    {"kind": RewardKind.turn_level, "alpha": 0.1},
    {"kind": RewardKind.turn_level, "alpha": 0.5},
)


def chance(arm: Settings, seed: int) -> float:
    """Credit helps a lot, or not at all; seeds hardly matter."""
    return (0.9 if arm.get("alpha") == 0.5 else 0.45) + 0.01 * seed


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make_study(tmp_path_factory.mktemp("study"), ARMS, chance, seeds=3, splits=("train", "test"))


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_chromium()
    if program is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    with Browser(program, tmp_path_factory.mktemp("profile")) as started:
        yield started
