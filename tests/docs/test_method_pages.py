"""The examples of the method pages that need nothing from elsewhere, run but for the length of the training."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
SHORTER = {  # by the words of the pages, each of which has at least one of them
    "num_train_epochs=12": "max_steps=2, logging_steps=1, use_cpu=True, disable_tqdm=True",
    "num_train_epochs=3, eval_strategy=": "max_steps=2, use_cpu=True, disable_tqdm=True, eval_strategy=",
    "encode_pairs(pairs[split],": "encode_pairs(pairs[split].select(range(40)),",
    'encode_pairs(pairs["train"],': 'encode_pairs(pairs["train"].select(range(40)),',
}


@pytest.mark.parametrize("page", ["mle", "raml"])
def test_the_example_runs_from_an_empty_folder(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    example = re.search(r"^## Example\n.*?```python\n(.*?)```", text, flags=re.MULTILINE | re.DOTALL)[1]
    shorter = example
    for words, fewer in SHORTER.items():
        shorter = shorter.replace(words, fewer)
    assert shorter.count("max_steps=2") == 1 and "select(range(40))" in shorter  # or the page has changed, and this too
    names = {"__name__": "example"}
    exec(compile(shorter, f"{page}.md", "exec"), names)
    assert names["trainer"].state.global_step == 2
    if page == "raml":
        assert 0 <= names["trainer"].state.log_history[0]["raml/edit_rate"] < 0.3
