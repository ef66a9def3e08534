"""The shipped corpus as a data set: it loads as it was, its card says what it is, and one commit publishes it."""

import pytest
from datasets import load_dataset
from huggingface_hub import DatasetCard

from hf_localgan.cli import main
from hf_localgan.data import load_pairs, load_smalltalk
from hf_localgan.hub import UploadError, push_smalltalk

REPO = "datasets/somebody/smalltalk"


def test_the_written_folder_loads_as_the_corpus(tmp_path, capsys):
    folder = tmp_path / "chats"
    assert main(["smalltalk", str(folder)]) == 0 and f"written: {folder}" in capsys.readouterr().out
    corpus = load_smalltalk(cache_dir=str(tmp_path / "cache"))
    data = load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert list(data) == list(corpus) and data["train"].features == corpus["train"].features
    for split in corpus:
        assert data[split].to_list() == corpus[split].to_list()
    assert load_pairs(str(folder))["test"].to_list() == load_pairs("smalltalk")["test"].to_list()

    card = DatasetCard.load(folder / "README.md")
    assert card.data.license == "cc0-1.0" and card.data.language == "en"
    assert [split["split"] for split in card.data.configs[0]["data_files"]] == list(corpus)
    assert 'load_dataset("chats")' in card.text and "| `responses` | list of strings |" in card.text
    assert f"| train queries | {len(data['train']):,} |" in card.text and "## How it was made" in card.text
    assert "this project" not in card.text and "JSON lines" not in card.text


def test_the_corpus_is_uploaded_by_one_commit_or_not_at_all(hub, tmp_path, capsys):
    hub.fail("POST", "/commit/", 500)
    with pytest.raises(UploadError, match='"somebody/smalltalk" could not be uploaded to'):
        push_smalltalk("somebody/smalltalk")
    assert hub.messages(REPO) == ["initial commit"]
    hub.failures.clear()
    assert main(["smalltalk", str(tmp_path / "chats"), "--push-to", "somebody/smalltalk"]) == 0
    assert hub.messages(REPO) == ["initial commit", "Small talk"]
    written = {path.relative_to(tmp_path / "chats").as_posix() for path in (tmp_path / "chats").rglob("*.*")}
    assert {*hub.files(REPO)} - {".gitattributes"} == written
    assert hub.files(REPO)["README.md"] == (tmp_path / "chats" / "README.md").read_bytes()
    assert main(["smalltalk", str(tmp_path / "chats"), "--private"]) == 2
    assert "--private does nothing without an upload" in capsys.readouterr().err
