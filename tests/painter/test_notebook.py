"""The notebook runs from top to bottom, on a tiny model as on any other."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "chatpainter.ipynb"


def test_runs_from_top_to_bottom(
    make_run: Callable[..., Path], weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    (tmp_path / "params.yaml").write_text(
        json.dumps({"encoders": {"weights": str(weights), "converted": str(weights / "converted")}})
    )
    monkeypatch.setenv("CHATPAINTER_RUN", str(make_run("attended")))
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parents[1]))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    notebook = nbformat.read(NOTEBOOK, as_version=4)

    nbclient.NotebookClient(notebook, timeout=500, resources={"metadata": {"path": str(tmp_path)}}).execute()

    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    pictures = [output for cell in cells for output in cell.outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 6
    assert "zyzzyva" in str(cells[2].outputs), "words that nobody knows are named"


def test_is_kept_without_its_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text())["cells"]

    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
