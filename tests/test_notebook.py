"""`examples/first_steps.ipynb` runs from its first cell to its last, and says what its text says."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pytest

from tests.commands import ROOT


@pytest.fixture(scope="module")
def cells():
    return json.loads((ROOT / "examples" / "first_steps.ipynb").read_text())["cells"]


def test_it_holds_no_outputs(cells):
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in cells)


def test_it_runs(cells, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(plt, "show", lambda: None)
    scope, said = {"__name__": "__main__"}, []
    plt.switch_backend("agg")
    for cell in cells:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), "first_steps.ipynb", "exec"), scope)
            said.append(capfd.readouterr().out)
    assert any("in time" in text for text in said)
    (late,) = (text for text in said if "the sound is" in text)
    assert abs(int(late.split()[3]) - 600) <= 100 and " late" in late
    assert (tmp_path / "run" / "checkpoints" / "10").is_dir()
    picture = np.asarray(scope["figure"].canvas.buffer_rgba())
    assert picture.std() > 10
    plt.close(scope["figure"])
