"""The notebook in examples/ runs from its first cell to its last, and is committed as it ran."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from flows import ROOT
from patience import PATIENCE

nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed (it is in the extra dev)")
nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed (it comes with nbclient)")
pytest.importorskip("ipykernel", reason="ipykernel is not installed (it is in the extra dev)")
pytest.importorskip("plotly", reason="plotly is not installed (it is in the extra report)")

NOTEBOOK = ROOT / "examples" / "look_at_a_run.ipynb"
KILOBYTES = 100


@pytest.mark.usefixtures("smoke")
def test_it_runs_on_the_smoke_experiment(smoke_outputs: Path, tmp_path: Path) -> None:
    (tmp_path / "outputs").symlink_to(smoke_outputs)
    before = sorted(smoke_outputs.iterdir())
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        cell.pop("outputs", None)
        if cell.cell_type == "code":
            cell.outputs = []
    client = nbclient.NotebookClient(notebook, timeout=PATIENCE, resources={"metadata": {"path": str(tmp_path)}})
    client.execute(env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert sorted(smoke_outputs.iterdir()) == before, "it finds the runs that are there"
    told = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    assert "sampled episodes failed:" in told and "turn_level  reward" in told


def test_it_is_committed_with_what_it_showed() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert outputs and not any(output.output_type == "error" for output in outputs)
    assert any("image/svg+xml" in output.get("data", {}) for output in outputs)
    assert NOTEBOOK.stat().st_size < KILOBYTES * 1000
