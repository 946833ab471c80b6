"""What SLURM, or a shell, gives a process, read once."""

from __future__ import annotations

import pytest

from tau2_exp.config import ConfigError
from tau2_exp.system.allocation import Allocation, allocation, expand_nodes, own_gpus


@pytest.mark.parametrize(
    ("listed", "nodes"),
    [
        ("login", ["login"]),
        ("gpu[01-03,7],login", ["gpu01", "gpu02", "gpu03", "gpu7", "login"]),
        ("127.0.0.[1-2]", ["127.0.0.1", "127.0.0.2"]),
        ("a,b-[8-11],c", ["a", "b-8", "b-9", "b-10", "b-11", "c"]),
        ("rack[1-2]node[09-10].local", [f"rack{r}node{n}.local" for r in (1, 2) for n in ("09", "10")]),
    ],
)
def test_slurm_node_lists_are_written_out(listed: str, nodes: list[str]) -> None:
    assert list(expand_nodes(listed)) == nodes


def test_an_allocation_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_JOB_ID", "SLURM_JOB_NODELIST", "SLURM_NODEID", "SLURM_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)
    assert allocation() is None
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "n[1-2]")
    monkeypatch.setenv("SLURM_NODEID", "1")
    first = allocation()
    assert first == Allocation("17", 0, ("n1", "n2"), 1) and (first.head, first.here) == ("n1", "n2")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    requeued = allocation()
    assert requeued and requeued.key == "17.2" != first.key
    monkeypatch.setenv("SLURM_NODEID", "2")
    with pytest.raises(ValueError, match="SLURM_NODEID=2"):
        allocation()


def test_gpus_are_counted_among_those_that_one_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert own_gpus(["0", "3"]) == ("0", "3")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,GPU-8f")
    assert own_gpus(["0", "2"]) == ("4", "GPU-8f")
    with pytest.raises(ConfigError, match="GPU 3: CUDA_VISIBLE_DEVICES=4,5,GPU-8f leaves 0 to 2"):
        own_gpus(["1", "3"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(ConfigError, match="GPU 0: CUDA_VISIBLE_DEVICES= leaves none"):
        own_gpus(["0"])
