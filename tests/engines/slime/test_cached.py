"""A conversion is made whole or not at all, once for all who need the same, and says where it comes from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from patience import PATIENCE, wait_until

from tau2_exp.config import ConfigError
from tau2_exp.engines.slime.cluster.cached import ConversionFailed, convert, read_conversion
from tau2_exp.system.processes import WITH_CODE

COPY = ("sh", "-c", 'echo made >> "$0"; cp -r "$1" "$2"')


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"layers": 2}')
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 100)
    (folder / "README.md").write_text("about it")
    return folder


def copy(tmp_path: Path, *more: str) -> tuple[str, ...]:
    """Copies {source} to {target}, and counts how often."""
    return (*COPY, str(tmp_path / "count"), "{source}", "{target}", *more)


def command(model: Path, target: Path, cache: Path, argv: tuple[str, ...]) -> subprocess.Popen[bytes]:
    """As a plan has it."""
    ours = [sys.executable, "-m", "tau2_exp", "cached", "--of", model, "--into", target, "--cache", cache, "--"]
    return subprocess.Popen([*WITH_CODE, *map(str, ours), *argv])


def count(tmp_path: Path) -> int:
    path = tmp_path / "count"
    return len(path.read_text().split()) if path.exists() else 0


def test_the_same_content_is_converted_once_wherever_it_lies(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two, cache = tmp_path / "run1/slime/base", tmp_path / "run2/slime/base", tmp_path / "cache"
    made = convert(str(model), one, cache, copy(tmp_path))
    assert one.is_symlink() and one.resolve() == made.resolve()
    assert (one / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()
    assert f"{made}: made in" in capsys.readouterr().out

    moved = model.rename(tmp_path / "elsewhere")
    (moved / "README.md").write_text("reworded")
    assert convert(str(moved), two, cache, copy(tmp_path)) == made and count(tmp_path) == 1
    assert "already there" in capsys.readouterr().out
    told = read_conversion(two)
    assert told.source == str(model) and told.content and told.command[-2:] == ("{source}", "{target}")

    assert convert(str(moved), two, cache, copy(tmp_path, "--other")) != made, "another command makes another thing"
    (moved / "model.safetensors").write_bytes(b"trained on")
    assert convert(str(moved), two, cache, copy(tmp_path)) != made and count(tmp_path) == 3
    assert (two / "model.safetensors").read_bytes() == b"trained on"


def test_what_fails_or_is_killed_leaves_nothing_that_looks_made(model: Path, tmp_path: Path) -> None:
    target, cache = tmp_path / "base", tmp_path / "cache"
    with pytest.raises(ConversionFailed, match="sh ended with status 3"):
        convert(str(model), target, cache, ("sh", "-c", 'mkdir "$0"; exit 3', "{target}"))
    with pytest.raises(ConversionFailed, match="wrote nothing"):
        convert(str(model), target, cache, ("true", "{target}"))
    slow = (
        "sh",
        "-c",
        'mkdir "$1"; touch "$0.began"; [ -e "$0.go" ] || exec sleep 600',
        f"{tmp_path}/slow",
        "{target}",
    )
    with command(model, target, cache, slow) as process:
        wait_until(lambda: (tmp_path / "slow.began").exists() or process.poll() is not None)
        assert process.poll() is None
        process.kill()
    assert not target.exists()
    assert [path for path in cache.iterdir() if path.name[0] != "."] == []
    (tmp_path / "slow.go").touch()
    made = convert(str(model), target, cache, slow)
    assert target.exists() and not list(cache.glob(f".{made.name}.part*"))


def test_two_who_need_the_same_make_it_once(model: Path, tmp_path: Path) -> None:
    script = 'sleep 0.5; echo made >> "$0"; cp -r "$1" "$2"'
    slow = ("sh", "-c", script, f"{tmp_path}/count", "{source}", "{target}")
    both = [command(model, tmp_path / name, tmp_path / "cache", slow) for name in "ab"]
    assert [process.wait(PATIENCE) for process in both] == [0, 0] and count(tmp_path) == 1
    assert (tmp_path / "a").resolve() == (tmp_path / "b").resolve()


def test_without_a_cache_the_newest_checkpoint_becomes_the_target_itself(tmp_path: Path) -> None:
    saved = tmp_path / "slime/checkpoints"
    for step in (3, 7):
        (saved / f"iter_{step:07d}").mkdir(parents=True)
        (saved / f"iter_{step:07d}/weights").write_text(str(step))
    (saved / "latest_checkpointed_iteration.txt").write_text("7")
    target = tmp_path / "checkpoints/last"
    assert convert(str(saved), target, None, copy(tmp_path)) == target and not target.is_symlink()
    assert (target / "weights").read_text() == "7"
    assert read_conversion(target).source == str(saved / "iter_0000007")
    (saved / "latest_checkpointed_iteration.txt").write_text("release")
    with pytest.raises(ConversionFailed):
        convert(str(saved), tmp_path / "other", None, copy(tmp_path))


def test_what_is_no_model_is_refused(tmp_path: Path, model: Path) -> None:
    (model / "config.json").unlink()
    with pytest.raises(ConfigError, match="no model in Hugging Face's format"):
        convert(str(model), tmp_path / "base", tmp_path / "cache", copy(tmp_path))
    with pytest.raises(ConfigError, match="no such folder"):
        convert("./absent", tmp_path / "base", tmp_path / "cache", copy(tmp_path))
