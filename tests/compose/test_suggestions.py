"""A word that is not known gets the nearest known one as its hint, or none; and nothing typed ends in a traceback."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tau2_exp.compose.choices import choices
from tau2_exp.compose.composition import compose_config, expand_sweep
from tau2_exp.compose.keys import GROUPS, known_settings, suggest_key
from tau2_exp.config import STAGES, ConfigError
from tau2_exp.config.nearest import nearest

COMMANDS = [
    ["stage=grpo", "stage.lr=1e-4", "reward.alpha=0.5", "seed=3"],
    ["stage.sft.epochs=3", "stage.grpo.steps=5", "domain.eval_splits=[train,test]"],
    ["stage=eval", "policy=oracle", "domain.limit=1", "stage.samples_per_prompt=1", "stage.greedy=false"],
    ["experiment=reference_grpo", "hardware=gpu_8", "+engine.slime.flags.balance-data=true"],
    ["experiment=smoke", "name=first", "outputs=runs"],
    ["model=qwen3_4b_instruct_2507", "hardware=slurm_cpu", "hardware.slurm.minutes=30", "logger=wandb"],
    ["reward.kind=shaped", "reward.multipliers.telecom=1.0", "curriculum=adaptive", "rollout.concurrency=8"],
    ["domain.names=[telecom]", "user=litellm", "user.model=gpt-4.1-mini", "dry_run=true"],
]
LETTERS = "abcdefghijklmnopqrstuvwxyz_=.,[]{}()~+@/'\"0 "


def mutations(word: str, letter: str) -> dict[str, list[str]]:
    """Each word that is one slip away: a letter dropped, inserted, or swapped with the next."""
    places = range(len(word))
    return {
        "drop": [word[:i] + word[i + 1 :] for i in places],
        "insert": [word[:i] + letter + word[i:] for i in range(len(word) + 1)],
        "swap": [word[:i] + word[i + 1 : i + 2] + word[i] + word[i + 2 :] for i in places],
    }


@st.composite
def slips(draw: st.DrawFn, word: str, letters: str) -> str:
    made = mutations(word, draw(st.sampled_from(letters)))
    return draw(st.sampled_from(made[draw(st.sampled_from(sorted(made)))]))


def distance(a: str, b: str) -> int:
    """Edits between two words, a swap of neighbours being one (optimal string alignment)."""
    rows = [list(range(len(b) + 1))]
    for i, one in enumerate(a, 1):
        row = [i]
        for j, other in enumerate(b, 1):
            best = min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (one != other))
            if i > 1 and j > 1 and one == b[j - 2] and a[i - 2] == other:
                best = min(best, rows[-2][j - 2] + 1)
            row.append(best)
        rows.append(row)
    return rows[-1][-1]


def suggested(text: str) -> list[str]:
    found = re.search(r"did you mean (.*?)\?", text)
    return found[1].split(" or ") if found else []


def check_suggestions(typed: str, meant: str, hints: list[str]) -> None:
    """What was meant is suggested, or what is no further from what was typed, or what begins with it."""
    near = [hint for hint in hints if hint.startswith(typed) or distance(typed, hint) <= distance(typed, meant)]
    assert meant in hints or near == hints, (typed, meant, hints)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data(), st.sampled_from(sorted(STAGES)))
def test_a_mistyped_key_is_told_the_nearest_one(data: st.DataObject, stage: str) -> None:
    meant = data.draw(st.sampled_from(sorted(known_settings(stage))))
    typed = data.draw(slips(meant, "aeimrst_"))
    if typed not in known_settings(stage):
        check_suggestions(typed, meant, suggested(suggest_key(typed, stage)))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data(), st.sampled_from(GROUPS))
def test_a_mistyped_choice_is_told_the_nearest_one(data: st.DataObject, group: str) -> None:
    meant = data.draw(st.sampled_from(sorted(choices(group))))
    typed = data.draw(slips(meant, "aeimrst_12"))
    if typed not in choices(group):
        check_suggestions(typed, meant, nearest(typed, choices(group)))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.data(), st.sampled_from(COMMANDS), st.booleans())
def test_no_slip_in_a_real_command_ends_in_a_traceback(data: st.DataObject, command: list[str], sweep: bool) -> None:
    place = data.draw(st.integers(0, len(command) - 1))
    typed = data.draw(slips(command[place], LETTERS))
    overrides = [*command[:place], typed, *command[place + 1 :]]
    try:
        for job in expand_sweep(overrides) if sweep else [overrides]:
            compose_config(job)
    except ConfigError as error:
        assert len(str(error).splitlines()) == 1
        told = suggested(str(error))
        meant, given_ = (text.lstrip("+").partition("=")[0] for text in (command[place], typed))
        if meant in known_settings() and given_ not in known_settings() and told:
            check_suggestions(given_, meant, told)


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["model=qwen3_4b"], "model=qwen3_4b: no such model; did you mean qwen3_4b_instruct_2507? "),
        (["polcy=oracle"], "polcy=oracle: no such setting; did you mean policy?"),
        (["polcy.kind=oracle"], "polcy.kind=oracle: no such setting; did you mean policy.kind?"),
        (["stage.grpo.learning_rate=1"], "did you mean stage.grpo.lr?"),
        (["stage=grpo", "stage.grpo.learning_rate=1"], "did you mean stage.lr?"),
        (["stage=grpo", "stage.learning_rate=1"], "did you mean stage.lr?"),
        (["learning_rate=1"], "did you mean stage.sft.lr or stage.rft.lr or stage.grpo.lr?"),
        (["stage.grpo.lrr=1"], "did you mean stage.grpo.lr?"),
        (["stage=sft", "stage.temperature=1"], "stage=rft and stage=grpo and stage=eval have it"),
        (
            ["experiment=smoke", "stage=grpo"],
            "sets stage.sft, a setting of stage=pipeline; remove stage=grpo, or exper",
        ),
        (
            ["experiment=reference_eval", "stage=rft"],
            "sets stage.greedy, a setting of stage=eval; remove stage=rft, or ",
        ),
        (["stage=grpo", "stage.name=sft"], "stage.name=sft: a stage is chosen with all its settings; write stage=sft"),
        (["recipe=tiny"], "recipe=tiny: recipe is no group that can be chosen"),
        (["curric@ulum=adaptive"], "curric@ulum=adaptive: curric is no group that can be chosen; did you mean curri"),
        (["reward.multipliers.teleco=1"], "not there yet; did you mean telecom; to add it write +reward.multipliers."),
        (["stage=eval", "stage.greedy=fasle"], "stage.greedy=fasle: must be true or false"),
        (
            ["hardware.slurm.options=3"],
            "hardware.slurm.options=3: must be a mapping: hardware.slurm.options={NAME:VALUE}",
        ),
        (["rollout=3"], "rollout=3: holds settings; give one of them a value: rollout.concurrency=…"),
        (["stage.sft=3"], "stage.sft=3: holds settings; give one of them a value: stage.sft.name=…"),
    ],
    ids=str,
)
def test_the_hint_says_what_is_really_wrong(overrides: list[str], line: str) -> None:
    with pytest.raises(ConfigError) as refused:
        compose_config(overrides)
    assert line in str(refused.value)
