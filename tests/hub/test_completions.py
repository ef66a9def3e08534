"""Generations as a data set: what is written is read back, and nothing is published whose licence nobody knows."""

import json

import pyarrow.parquet
import pytest
from datasets import load_dataset
from huggingface_hub import DatasetCard

from hf_localgan.decoding import Decoding
from hf_localgan.evaluation import Evaluation
from hf_localgan.hub import UploadError, push_completions, write_completions
from hf_localgan.hub.rendering import weights_digest
from hf_localgan.metrics import score_responses

REPO = "datasets/somebody/answers"
QUERIES, REFERENCES = ["how are you?", "a | b"], [["fine", "well"], ["c"]]
ANSWERS = {"greedy": ["fine", "d"], "beam 5": ["well", ""], "temperature 0.7": ["fine\nand <b>you</b>", "|"]}


@pytest.fixture
def evaluation() -> Evaluation:
    decodings = [*map(Decoding.parse, ANSWERS)]
    reports = {name: score_responses(texts, REFERENCES, resamples=0) for name, texts in ANSWERS.items()}
    about = {"model": "tiny", "dataset": "smalltalk", "split": "test", "seed": 1}
    return Evaluation(about, QUERIES, REFERENCES, reports, None, ANSWERS, decodings)


def rows_of(hub) -> list[dict]:
    """Rows of the data set on the Hub."""
    files = hub.files(REPO)
    (name,) = (name for name in files if name.endswith(".parquet"))
    return pyarrow.parquet.read_table(pyarrow.BufferReader(files[name])).to_pylist()


EXPECTED = [
    {"query": query, "references": references, **{name: texts[row] for name, texts in ANSWERS.items()}}
    for row, (query, references) in enumerate(zip(QUERIES, REFERENCES, strict=True))
]


@pytest.mark.parametrize("stored", [True, False])
def test_a_folder_of_generations_loads_as_it_was_written(evaluation, stored, tmp_path):
    source = tmp_path / "run" if stored else evaluation
    if stored:
        evaluation.write(source, plots=False)
    folder = write_completions(tmp_path / "data", source, license="cc0-1.0", model_id="somebody/tiny", language="en")
    data = load_dataset(str(folder), split="test", cache_dir=str(tmp_path / "cache"))
    assert data.to_list() == EXPECTED and data.column_names == ["query", "references", *ANSWERS]
    card = DatasetCard.load(folder / "README.md")
    assert card.data.license == "cc0-1.0" and card.data.language == "en"
    assert "[somebody/tiny](https://huggingface.co/somebody/tiny)" in card.text and "* seed: 1" in card.text
    assert "| `beam 5` | response | do_sample=False, num_beams=5 |" in card.text
    assert "The publisher states `cc0-1.0`" in card.text and "\n\n\n" not in card.text


def test_generations_go_to_a_private_data_set_by_one_commit(evaluation, hub, tmp_path):
    evaluation.write(tmp_path, plots=False)
    push_completions(tmp_path, "somebody/answers", model_id="somebody/tiny")
    assert rows_of(hub) == EXPECTED and hub.settings[REPO]["visibility"] == "private"
    assert hub.messages(REPO) == ["initial commit", "Generations"]
    assert {*hub.files(REPO)} == {".gitattributes", "README.md", "data/test-00000-of-00001.parquet"}
    assert b"license: cc0-1.0" in hub.files(REPO)["README.md"]
    evaluation.about["split"] = "validation"  # another split replaces it whole
    push_completions(evaluation, "somebody/answers")
    assert {name for name in hub.files(REPO) if "data/" in name} == {"data/validation-00000-of-00001.parquet"}


@pytest.mark.parametrize(("on_card", "given", "expected"), [
    (None, None, None), ("unknown", None, None), (None, "unknown", "unknown"), ("mit", None, "mit"),
    ("mit", "cc-by-4.0", "cc-by-4.0"),
])  # fmt: skip
def test_the_licence_of_the_texts_is_known_or_the_user_says_so(evaluation, hub, on_card, given, expected):
    evaluation.about["dataset"] = "somebody/chats"
    if on_card is not None:
        hub.commits["datasets/somebody/chats"] = {"main": [("0" * 40, "first", {})]}
        hub.licenses["datasets/somebody/chats"] = on_card
    if expected is None:
        with pytest.raises(ValueError, match='"somebody/chats" is not known.* Say it by `completions_license`'):
            push_completions(evaluation, "somebody/answers", license=given)
        assert REPO not in hub.commits
        return
    push_completions(evaluation, "somebody/answers", license=given)
    card = hub.files(REPO)["README.md"].decode()
    assert f"license: {expected}\n" in card
    assert ("Its licence is not known to the publisher" in card) == (expected == "unknown")


def test_a_file_of_this_machine_has_no_known_licence(evaluation, hub, tmp_path):
    evaluation.about["dataset"] = str(tmp_path / "chats.jsonl")
    with pytest.raises(ValueError, match="`unknown`, if you may publish them all the same"):
        push_completions(evaluation, "somebody/answers")
    assert not hub.commits
    push_completions(evaluation, "somebody/answers", license="unknown")
    assert str(tmp_path).encode() not in hub.files(REPO)["README.md"]  # no folder of this machine is told


@pytest.mark.parametrize(("method", "pattern"), [("PUT", "/lfs/put/"), ("POST", "/commit/"), ("POST", "/preupload/")])
def test_a_failed_upload_of_generations_leaves_nothing_half_written(evaluation, hub, method, pattern, tmp_path):
    evaluation.write(tmp_path, plots=False)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    hub.fail(method, pattern, 500)
    with pytest.raises(UploadError, match="hf_localgan.hub.push_completions"):
        push_completions(tmp_path, "somebody/answers")
    assert hub.messages(REPO) == ["initial commit"]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    hub.failures.clear()
    push_completions(tmp_path, "somebody/answers")
    assert rows_of(hub) == EXPECTED


def test_generations_of_other_weights_and_folders_without_any_are_refused(evaluation, hub, tmp_path):
    with pytest.raises(ValueError, match="it has no evaluation.json and no generations.parquet"):
        push_completions(tmp_path, "somebody/answers")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    evaluation.about["weights"] = weights_digest(tmp_path)
    evaluation.write(tmp_path, plots=False)
    write_completions(tmp_path / "data", tmp_path, license="cc0-1.0")
    (tmp_path / "model.safetensors").write_bytes(b"others")
    with pytest.raises(ValueError, match="are of other weights than those that lie there"):
        push_completions(tmp_path, "somebody/answers")
    (tmp_path / "evaluation.json").write_text(json.dumps({"about": {}})[:-1])
    with pytest.raises(ValueError, match="cannot be read.* Evaluate anew"):
        push_completions(tmp_path, "somebody/answers")
    assert not hub.commits
