"""A plan is done in order, goes on where it ended, says what failed, and leaves no process behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tau2_exp.codec import encode
from tau2_exp.engines.slime.cluster.execute import CommandFailed, execute, left_to_do
from tau2_exp.system.commands import Command
from tau2_exp.system.processes import WITH_CODE, with_this_python
from tests.patience import PATIENCE, wait_until


def sh(name: str, script: str, **more: object) -> Command:
    return Command(name, ("sh", "-c", script), **more)  # type: ignore[arg-type]


def server(folder: Path, name: str = "server", script: str = "", **more: object) -> Command:
    """Notes its process and that of a child, says that it is ready, and stays."""
    ready = folder / f"{name}.json"
    body = f"sleep 600 & echo $$ $! >> {folder}/{name}.pids; {script} echo '{{}}' > {ready}; wait"
    return sh(name, body, ready=str(ready), **more)


def alive(pids: Path) -> list[int]:
    """Of the processes noted there, those that run."""
    noted = [int(pid) for pid in pids.read_text().split()]
    return [pid for pid in noted if Path(f"/proc/{pid}/stat").exists() and " Z " not in _stat(pid)]


def gone(*files: Path) -> bool:
    """Whether those noted there have ended; who was just killed has a moment to be gone."""
    wait_until(lambda: not any(map(alive, files)), "their end")
    return True


def _stat(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return " Z "


def names(commands: list[Command]) -> list[str]:
    return [command.name for command in commands]


@pytest.mark.parametrize(
    ("there", "left"),
    [
        ((), ["convert", "ray", "train", "back"]),
        (("base",), ["ray", "train", "back"]),
        (("base", "trained"), ["back"]),  # no Ray where nothing is trained
        (("trained",), ["back"]),  # what only training needs is not made again
        (("base", "trained", "last"), []),
    ],
)
def test_what_is_there_is_not_made_again_nor_what_only_it_needed(
    tmp_path: Path, there: tuple[str, ...], left: list[str]
) -> None:
    for name in there:
        (tmp_path / name).touch()
    plan = [
        sh("convert", "", makes=f"{tmp_path}/base"),
        sh("ray", "", ready=f"{tmp_path}/ray.json", until="train"),
        sh("train", "", needs=("convert", "ray"), makes=f"{tmp_path}/trained"),
        sh("back", "", needs=("train",), makes=f"{tmp_path}/last"),
    ]
    assert names(left_to_do(plan)) == left


def test_a_plan_that_cannot_be_done_in_its_order_is_refused() -> None:
    with pytest.raises(ValueError, match="b needs a"):
        left_to_do([sh("b", "", needs=("a",)), sh("a", "")])
    with pytest.raises(ValueError, match="two commands are named a"):
        left_to_do([sh("a", ""), sh("a", "")])


def test_commands_run_when_what_they_need_is_there_and_servers_end_when_they_are_not_needed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "server.json").write_text("{}")  # a killed attempt's: nobody answers there
    told = f"cat {tmp_path}/told 2>/dev/null; echo $NAME >> {tmp_path}/told"
    plan = [
        sh("first", told, env={"NAME": "first"}, makes=f"{tmp_path}/told"),
        server(tmp_path, script=f"test -s {tmp_path}/told && sleep 0.3 &&", needs=("first",), until="second"),
        sh("second", f"test -s {tmp_path}/server.json && {told}", env={"NAME": "second"}, needs=("server",)),
        sh("third", told, env={"NAME": "third"}, needs=("second",), cwd=str(tmp_path)),
        Command("alive", ("python", __file__, "alive", f"{tmp_path}/server.pids"), needs=("third",)),
    ]
    execute(plan, tmp_path, PATIENCE)
    assert (tmp_path / "told").read_text().split() == ["first", "second", "third"]
    assert (tmp_path / "logs/third.log").read_text().split("\n")[1:-1] == ["first", "second"]
    assert (tmp_path / "logs/alive.log").read_text().split("\n")[1] == "[]"  # ended before what came after it
    out = capsys.readouterr().out
    assert (
        out.index("server: ready") < out.index("second: started") < out.index("server: ended") < out.index("third: s")
    )
    execute(plan[:1], tmp_path, PATIENCE)
    assert "already done: first" in capsys.readouterr().out


def test_programs_are_those_of_the_environment_that_does_the_plan() -> None:
    assert with_this_python(["python3", "-m", "x"]) == [sys.executable, "-m", "x"]
    assert with_this_python(["pip"]) == [str(Path(sys.executable).with_name("pip"))]
    assert [with_this_python([name]) for name in ("sh", "/bin/true")] == [["sh"], ["/bin/true"]]


def test_a_failure_names_step_status_log_and_its_end_and_ends_the_servers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = [
        server(tmp_path),
        sh("train", "for i in 1 2 3 4 5 6 7; do echo line $i; done; echo CUDA error >&2; exit 3", needs=("server",)),
        sh("after", f"touch {tmp_path}/after", needs=("train",)),
    ]
    with pytest.raises(CommandFailed) as failure:
        execute(plan, tmp_path, PATIENCE)
    message = str(failure.value)
    assert message.startswith("train: ended with status 3 after 0 s") and f"{tmp_path}/logs/train.log" in message
    assert message.endswith("line 4 | line 5 | line 6 | line 7 | CUDA error")
    assert "  line 1\n" in capsys.readouterr().out
    assert not (tmp_path / "after").exists() and gone(tmp_path / "server.pids")


@pytest.mark.parametrize(
    ("failing", "said"),
    [
        (
            sh("dies", "echo no memory; exit 7", ready="dies.json"),
            "dies: a server .* ended with status 7",
        ),
        (sh("never", "sleep 600", ready="never.json"), r"never: not ready within 1 s \(engine.slime.start_seconds\)"),
        (sh("killed", "kill -9 $$"), "killed: was ended by SIGKILL"),
        (sh("idle", "true", makes="/nowhere/at all"), "idle: succeeded, but did not create /nowhere/at all"),
        (Command("absent", ("no-such-program",)), "absent: ended with status 127 .*no-such-program"),
    ],
    ids=lambda value: value.name if isinstance(value, Command) else "",
)
def test_what_can_go_wrong_is_noticed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: Command, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    needing = [failing, server(tmp_path, "other"), sh("long", "sleep 600", needs=("other",))]
    needing += [sh("next", "true", needs=(failing.name,))]
    with pytest.raises(CommandFailed, match=said):
        execute(needing, tmp_path, 1.0)


def test_a_server_that_dies_under_way_ends_what_uses_it(tmp_path: Path) -> None:
    plan = [
        server(tmp_path, "mortal", "(sleep 1; kill -9 $$) &", until="long"),
        sh("long", "sleep 600", needs=("mortal",)),
    ]
    with pytest.raises(CommandFailed, match="mortal: a server that is still needed was ended by SIGKILL"):
        execute(plan, tmp_path, PATIENCE)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_however_it_is_ended_nothing_of_it_stays(tmp_path: Path, number: signal.Signals) -> None:
    plan = [
        server(tmp_path, "one", until="work"),
        server(tmp_path, "two"),
        sh("work", f"sleep 600 & echo $$ $! > {tmp_path}/work.pids; wait", needs=("one", "two")),
    ]
    (tmp_path / "plan.json").write_text(json.dumps([encode(command) for command in plan]))
    # Killed itself, it can only have its commands told to end: these then end what they started, as ours do.
    trap = number is signal.SIGKILL
    with subprocess.Popen([*WITH_CODE, sys.executable, __file__, "execute", str(tmp_path), str(int(trap))]) as program:
        noted = tmp_path / "work.pids"

        def works() -> bool:
            assert program.poll() is None
            return noted.exists() and len(noted.read_text().split()) == 2

        wait_until(works, "the plan's work")
        os.kill(program.pid, number)
        program.wait(PATIENCE)
    assert gone(*(tmp_path / f"{name}.pids" for name in ("one", "two", "work")))


def _main() -> None:
    """What the tests above start: the plan in a folder as a worker does it, or the processes that still run."""
    if sys.argv[1] == "alive":
        print(alive(Path(sys.argv[2])))
        return
    from tau2_exp.codec import decode
    from tau2_exp.system.processes import terminable

    folder = Path(sys.argv[2])
    plan = [decode(Command, record) for record in json.loads((folder / "plan.json").read_text())]
    if int(sys.argv[3]):
        trap = "trap 'kill $!; exit 0' TERM; "
        plan = [sh(c.name, trap + c.argv[2], needs=c.needs, ready=c.ready, until=c.until) for c in plan]
    with terminable():
        execute(plan, folder, PATIENCE)


if __name__ == "__main__":
    _main()
