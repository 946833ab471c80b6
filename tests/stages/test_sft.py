"""SFT from a file: a published dataset's conversations, or trajectories, each bad line named before training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tau2_exp.config import ConfigError
from tau2_exp.domains import load_domain
from tau2_exp.engines.torch.tokenizer import load_tokenizer
from tau2_exp.runs.run import Run
from tau2_exp.stages import run_stage

CALL = '<tool_call>\n{"name": "get_customer_by_phone", "arguments": {"phone_number": "555-123-2002"}}\n</tool_call>'
PUBLISHED = {
    "prompt": [
        {"role": "system", "content": "You help customers of a phone company."},
        {"role": "user", "content": "My phone is 555-123-2002 and it has no signal."},
        {"role": "assistant", "content": CALL},
        {"role": "tool", "content": '{"customer_id": "C1001"}'},
        {"role": "assistant", "content": "Please turn airplane mode off."},
    ]
}
SETTINGS = ("stage=sft", "stage.epochs=6", "stage.batch_size=1", "stage.lr=1e-2")


def write(path: Path, *lines: object) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def learned(run: Run) -> bool:
    losses = [record["loss"] for record in run.metrics()]
    return losses[-1] < 0.7 * losses[0]


def test_it_learns_from_published_conversations_alone(make_run, tmp_path: Path) -> None:
    file = write(tmp_path / "published.jsonl", PUBLISHED, PUBLISHED)
    run = make_run(*SETTINGS, f"stage.data={file}")
    run_stage(run)
    assert run.results["conversations"] == 2 and run.results["steps"] == 12
    assert learned(run)
    tokenizer = load_tokenizer(run.folder / run.results["model"])
    assert len(tokenizer.encode("555-123-2002")) < 12, "the tokenizer is made of what the file says"


def test_messages_are_a_prompt_and_what_is_left_out_of_a_line_is_said(make_run, tmp_path: Path, capsys) -> None:
    call = {"id": "c1", "function": {"name": "toggle_roaming", "arguments": "{}"}}
    told = {"role": "assistant", "content": "One moment.", "reasoning_content": "Roaming?", "tool_calls": [call]}
    rest = [{"role": "tool", "tool_call_id": "c1", "content": "on"}, *PUBLISHED["prompt"][4:]]
    line = {"messages": [*PUBLISHED["prompt"][:2], told, *rest], "tools": []}
    file = write(tmp_path / "messages.jsonl", line, PUBLISHED, line)
    run = make_run(*SETTINGS, "stage.epochs=1", f"stage.data={file}")
    run_stage(run)
    assert run.results["conversations"] == 3
    what = "`tools` of a line (2), `reasoning_content` of a message (2), words beside tool calls (2)"
    assert f"sft: left out of the 3 lines of {file}: {what}" in capsys.readouterr().out


def test_trajectories_in_a_file_teach_as_a_parent_does(make_run, demos: Run, tmp_path: Path) -> None:
    file = shutil.copy(demos.folder / "trajectories" / "demos.jsonl", tmp_path / "mine.jsonl")
    from_file, from_parent = make_run(*SETTINGS, f"stage.data={file}"), make_run(*SETTINGS, parent=demos)
    for run in (from_file, from_parent):
        run_stage(run)
    assert [r["loss"] for r in from_file.metrics()] == [r["loss"] for r in from_parent.metrics()]
    assert learned(from_file)


def test_the_optimiser_stays_where_it_is_to_be_kept(make_run, demos: Run) -> None:
    for keep in (True, False):
        run = make_run(*SETTINGS, "stage.epochs=1", f"stage.keep_optimiser={keep}", parent=demos)
        run_stage(run)
        assert (run.folder / run.results["model"] / "training.pt").exists() is keep


def test_tokens_that_another_model_sampled_are_not_taken_for_ones_own(make_run, demos: Run, tmp_path: Path) -> None:
    """The same words, whatever ids they were sampled as, give the same rows."""
    trajectories = [json.loads(line) for line in (demos.folder / "trajectories/demos.jsonl").read_text().splitlines()]
    plain = write(tmp_path / "plain.jsonl", *trajectories)
    for trajectory in trajectories:
        for turn in trajectory["turns"]:
            turn["tokens"] = {"context": [7], "sampled": [3, 5, 999_999], "log_probs": [-0.1, -0.2, -0.3]}
    foreign = write(tmp_path / "foreign.jsonl", *trajectories)
    runs = [make_run(*SETTINGS, "stage.epochs=1", f"stage.data={file}") for file in (plain, foreign)]
    for run in runs:
        run_stage(run)
    assert runs[0].results == runs[1].results
    assert [r["loss"] for r in runs[0].metrics()] == [r["loss"] for r in runs[1].metrics()]


def test_bad_lines_are_named_before_there_is_a_run_folder(make_run, tmp_path: Path) -> None:
    nameless = {"prompt": [{"role": "progress", "content": "Once"}]}
    file = write(tmp_path / "bad.jsonl", PUBLISHED, "{not json", nameless, {"task": "t"})
    with pytest.raises(ConfigError) as caught:
        make_run(*SETTINGS, f"stage.data={file}")
    message = str(caught.value)
    assert f"{file}:2: " in message and f"{file}:3: prompt[0].role: 'progress' is not one of" in message
    assert f"{file}:4: " in message and f"{file}:1: " not in message
    assert list(tmp_path.iterdir()) == [file]


def test_what_the_run_cannot_say_is_named_with_its_line_and_what_would_do(make_run, demos: Run, tmp_path: Path) -> None:
    trajectory = json.loads((demos.folder / "trajectories/demos.jsonl").read_text().splitlines()[0])
    retail = write(tmp_path / "retail.jsonl", PUBLISHED, trajectory, trajectory | {"domain": "retail"})
    valid = "use domain=retail, or domain.names=[telecom,retail]"
    refused(make_run, retail, f"{retail}:3: is of retail, not of domain.names=[telecom]; {valid}")
    tested = [trajectory | {"task": task.id} for task in load_domain("telecom").tasks("test")[:2]]
    mixed = write(tmp_path / "mixed.jsonl", tested[0], trajectory, PUBLISHED, tested[1])
    why = "2 lines are of tasks outside domain.train_split=train of telecom"
    refused(make_run, mixed, f"{mixed}:1, 4: {why} ({tested[0]['task']}); remove what is not to be learned from")
    call = {"function": {"name": "toggle_roaming", "arguments": {}}}
    two = {"prompt": [*PUBLISHED["prompt"][:2], {"role": "assistant", "tool_calls": [call, call]}]}
    double = write(tmp_path / "double.jsonl", PUBLISHED, "", two, PUBLISHED, two)
    why = f"{double}:3, 5: several tool calls in one turn (2 of 4 conversations), which model.protocol=single_action "
    refused(make_run, double, why + "cannot say; use model.protocol=native", "model.protocol=single_action")


def refused(make_run, file: Path, why: str, *overrides: str) -> None:
    with pytest.raises(ConfigError) as caught:
        run_stage(make_run(*SETTINGS, f"stage.data={file}", *overrides))
    assert str(caught.value) == f"stage.data: {why}"


def test_demonstrations_of_another_domain_are_named(make_run, demos: Run) -> None:
    with pytest.raises(ConfigError, match=r"demos: telecom/.*: is of telecom, not of domain.names=\[retail\]"):
        run_stage(make_run(*SETTINGS, "domain=retail", parent=demos))


def test_a_bad_line_is_one_line_for_whoever_runs_it(run_py, tmp_path: Path) -> None:
    file = write(tmp_path / "bad.jsonl", PUBLISHED, {"prompt": "hello"})
    done = run_py("stage=sft", f"stage.data={file}")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: stage.data: {file}:2: prompt: expected a list of messages, got str")


def test_conversations_that_do_not_fit_are_refused_with_their_length(make_run, demos: Run) -> None:
    run = make_run(*SETTINGS, "model.context=200", parent=demos)
    with pytest.raises(ConfigError, match=r"model.context=200: even the shortest conversation has \d+ tokens"):
        run_stage(run)


@pytest.mark.parametrize(("protocol", "missing"), [("native", "<|im_end|>"), ("single_action", "<|im_end|>")])
def test_a_tokenizer_that_cannot_end_a_turn_is_refused_in_one_line(
    make_run, pupil: Run, tmp_path: Path, protocol: str, missing: str
) -> None:
    model = shutil.copytree(pupil.folder / pupil.results["model"], tmp_path / "model")
    tokens = json.loads((model / "tokenizer.json").read_text())
    tokens["added_tokens"] = [token for token in tokens["added_tokens"] if token["content"] != missing]
    tokens["model"]["vocab"] = {"x" * (name == missing) + name: id for name, id in tokens["model"]["vocab"].items()}
    (model / "tokenizer.json").write_text(json.dumps(tokens))
    for stage in ("eval", "rft", "grpo"):
        run = make_run(f"stage={stage}", f"model.path={model}", f"model.protocol={protocol}")
        with pytest.raises(ConfigError) as caught:
            run_stage(run)
        why = f"its tokenizer has no special token {missing}, with which turns of model.protocol={protocol} begin"
        assert str(caught.value).startswith(f"model.path={model}: {why} or end; ")


def test_a_context_without_room_for_the_system_prompt_is_refused_before_play(make_run, pupil: Run) -> None:
    run = make_run("stage=eval", "model.context=400", "domain.document=full", parent=pupil)
    with pytest.raises(ConfigError, match=r"model.context=400: the system prompt of telecom has \d+ tokens"):
        run_stage(run)
