"""The `evaluate` modules as Spaces: card, page and requirements of each, and examples that give what they print."""

import json
import re
import shutil
from importlib.metadata import requires, version
from pathlib import Path

import evaluate
import pytest
from huggingface_hub import RepoCard
from packaging.requirements import Requirement

from hf_localgan import metrics
from hf_localgan.hub import UploadError, push_metric

pytest.importorskip("gradio")
NAMES = metrics.module_names()


@pytest.fixture(params=NAMES)
def folder(request) -> Path:
    return Path(metrics.module_path(request.param))


def page_of(folder: Path):
    """The page that `app.py` makes, and its example."""
    names = {"__name__": "app", "__file__": str(folder / "app.py")}
    exec(compile((folder / "app.py").read_text(), str(folder / "app.py"), "exec"), names)
    return names["page"], names["EXAMPLE"]


def answer(page, *texts):
    (compute,) = (function for function in page.fns.values() if function.api_name == "compute")
    return compute.fn(*texts)


def test_each_folder_is_a_space(folder):
    card = RepoCard.load(folder / "README.md", repo_type="space")
    data = card.data.to_dict()
    assert data["sdk"] == "gradio" and data["app_file"] == "app.py" and data["tags"] == ["evaluate", "metric"]
    assert data["title"] and len(data["description"]) < 200 and data["license"] == "apache-2.0"
    gradio = next(one for one in map(Requirement, requires("hf-localgan")) if one.name == "gradio")
    assert data["sdk_version"] in gradio.specifier
    assert data["sdk_version"].split(".")[0] == version("gradio").split(".")[0]
    (needed,) = (folder / "requirements.txt").read_text().split()
    assert Requirement(needed).name == "hf-localgan" and Requirement(needed).extras == {"demo"}
    assert {path.name for path in folder.iterdir()} - {"__pycache__"} == {
        "README.md", "app.py", "requirements.txt", f"{folder.name}.py"
    }  # fmt: skip


def test_the_example_of_each_card_gives_the_printed_numbers(folder, capsys):
    text = (folder / "README.md").read_text()
    ((code, printed),) = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", text, flags=re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out == printed
    module = metrics.load(folder.name)
    for name in module.features:
        assert f"| `{name}` |" in text
    for score in printed.split("\n")[:-1]:  # every score has its line in a table
        stem = re.sub(r"\d+$", "{n}", score.split()[0])
        pooled = re.sub(r"_(first|mean|max)$", "_…", stem)
        assert f"`{stem}`" in text or f"`{pooled}`" in text


def test_each_page_computes_its_example_and_says_what_is_wrong(folder, tmp_path):
    import gradio

    space = shutil.copytree(folder, tmp_path / "app")  # a Space lies in a folder of this name
    page, example = page_of(space)
    module = evaluate.load(str(folder))
    texts = [json.dumps(example[name]) for name in module.features]
    settings = {name: value for name, value in example.items() if name not in module.features}
    scores = answer(page, *texts, json.dumps(settings))
    code = re.search(r"```text\n(.*?)```", (folder / "README.md").read_text(), flags=re.DOTALL)[1]
    expected = {line.split()[0]: float(line.split()[1]) for line in code.splitlines()}
    assert {name: round(scores[name], 4) for name in expected} == expected  # the card's example is the page's
    with pytest.raises(gradio.Error, match="`predictions` must be JSON"):
        answer(page, "[", *texts[1:], "{}")
    with pytest.raises(gradio.Error, match="`settings` must be an object"):
        answer(page, *texts, "3")


def test_a_module_is_pushed_as_a_space_by_one_commit(hub):
    with pytest.raises(ValueError, match='must be called "distinct_n", as its file is, got "somebody/dist"'):
        push_metric("distinct_n", "somebody/dist")
    hub.fail("POST", "/commit/", 500)
    with pytest.raises(UploadError, match="push it again"):
        push_metric("distinct_n", "somebody/distinct_n")
    hub.failures.clear()
    push_metric("distinct_n", "somebody/distinct_n")
    assert hub.messages("spaces/somebody/distinct_n") == ["initial commit", "distinct_n"]
    assert hub.settings["spaces/somebody/distinct_n"]["sdk"] == "gradio"
    files = {"README.md", "app.py", "requirements.txt", "distinct_n.py", ".gitattributes"}
    assert {*hub.files("spaces/somebody/distinct_n")} == files
