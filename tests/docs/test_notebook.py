"""The notebook: its cells run from top to bottom as they stand, but for the install and the length of the trainings."""

import json
import re
from pathlib import Path

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "quickstart.ipynb"
CELLS = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
# What is cut down, by the words of the notebook; each must be there.
SHORTER = {
    '"max_steps": 300': '"max_steps": 2, "use_cpu": True, "disable_tqdm": True, "sample_rows": 1',
    '"eval_steps": 150': '"eval_steps": 2',
    '"logging_steps": 50': '"logging_steps": 1',
    "(encode_pairs(pairs[split], tokenizer)": "(encode_pairs(pairs[split].select(range(60)), tokenizer)",
    "select(range(200))": "select(range(12))",
    "dim=50": "dim=8",
}


def source(cell: dict) -> str:
    return "".join(cell["source"])


def test_the_cells_run_in_their_order_in_an_empty_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = [source(cell) for cell in CELLS if cell["cell_type"] == "code"]
    assert code[0].startswith("%pip install") and not any(
        "%" in line[:1] for cell in code[1:] for line in cell.split("\n")
    )
    whole = "\n".join(code)
    assert all(words in whole for words in SHORTER)
    names = {"__name__": "notebook"}
    for number, cell in enumerate(code[1:], 2):
        for words, fewer in SHORTER.items():
            cell = cell.replace(words, fewer)
        exec(compile(cell, f"cell {number}", "exec"), names)
    said = capsys.readouterr().out
    assert "generated_text" in said and "Dist-1" in said
    for file in ("config.json", "model.safetensors", "tokenizer.json", "evaluation.json", "diversity_relevance.png"):
        assert (tmp_path / "runs" / "notebook-raml" / file).is_file(), file


def test_it_is_a_notebook_without_outputs_whose_links_lead_somewhere():
    content = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert content["nbformat"] == 4 and content["metadata"]["kernelspec"]["name"] == "python3"
    identities = [cell["id"] for cell in CELLS]
    assert len(set(identities)) == len(identities) and {cell["cell_type"] for cell in CELLS} == {"code", "markdown"}
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in CELLS if "outputs" in cell)
    links = [link for cell in CELLS for link in re.findall(r"\]\(([^)#:]+)\)", source(cell))]
    assert links and all((NOTEBOOK.parent / link).is_file() for link in links)
