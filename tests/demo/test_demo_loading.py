"""What the page is given: models, the energy and its tokenizer, the data set of the references, notes and errors."""

import socket
import sys

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from hf_localgan import measure_locality
from hf_localgan.data.vocabulary import vocabulary_fingerprint
from hf_localgan.demo import launch
from hf_localgan.demo.launching import check_address
from hf_localgan.demo.loading import find_energy, load_page_models, load_reader


@pytest.fixture(autouse=True)
def no_hub(monkeypatch):
    """What is no folder is not looked up: the tests have no network."""

    def closed(*args, **kwargs):
        raise OSError("offline")

    monkeypatch.setattr("hf_localgan.demo.loading.snapshot_download", closed)


def another_tokenizer(words: list[str]) -> PreTrainedTokenizerFast:
    tokens = {word: number for number, word in enumerate(["<pad>", "</s>", "<unk>", *words])}
    tokenizer = Tokenizer(models.WordLevel(tokens, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
        model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip


def test_the_energy_and_the_data_set_are_found_by_themselves(saved, data):
    paths = [saved("plain"), saved("gan", 1, energy=True, about={"dataset": str(data), "objective": "LocalGAN"})]
    page_models = load_page_models(list(map(str, paths)), progress=False)
    assert [(one.name, one.objective) for one in page_models.speakers] == [("plain", ""), ("gan", "LocalGAN")]
    assert page_models.reader.path == str(paths[1] / "energy")
    assert (
        page_models.references.name == "data, test"
        and len(page_models.references.radii) == 6
        and page_models.notes == ()
    )


def test_the_shipped_corpus_is_taken_by_its_name(saved):
    path = saved("gan", energy=True, about={"dataset": "smalltalk", "split": "test"})
    page_models = load_page_models([str(path)], reference_queries=200, progress=False)
    assert page_models.references.name == "smalltalk, test" and page_models.references.queries == 200
    assert len(page_models.references.responses) > 400


def test_options_win(saved, data, text_energy, tiny_tokenizer, tmp_path):
    path = saved("gan", energy=True, about={"dataset": "smalltalk"})
    text_energy(seed=5).save_pretrained(tmp_path / "mine")
    tiny_tokenizer.save_pretrained(tmp_path / "mine")
    page_models = load_page_models(
        [str(path)], energy=str(tmp_path / "mine"), dataset=str(data), split="test", progress=False
    )
    assert page_models.reader.path == str(tmp_path / "mine") and page_models.references.name == "data, test"
    expected = measure_locality(text_energy(seed=5), tiny_tokenizer, "hello", ["hello you"]).radii
    assert page_models.reader.radii(["hello"], ["hello you"]) == pytest.approx(expected, abs=1e-5)


def test_without_an_energy_the_page_says_so(saved):
    page_models = load_page_models([str(saved("plain", about={"dataset": "smalltalk"}))])
    assert page_models.reader is None and page_models.references is None
    assert "No model has an energy" in page_models.notes[0] and "--energy FOLDER" in page_models.notes[0]


@pytest.mark.parametrize(
    "about, note",
    [
        (None, "no model says what it was evaluated on"),
        ({"dataset": "someone/data"}, "someone/data of the evaluation is not here"),  # never fetched unasked
        ({"dataset": "${NO_SUCH_VARIABLE}/data"}, "is not here"),
        ({"dataset": "smalltalk", "split": "nights"}, "has no split `nights`"),
        (["not", "a", "dict"], "no model says"),
    ],
)
def test_without_a_data_set_the_page_says_why(saved, about, note):
    page_models = load_page_models([str(saved("gan", energy=True, about=about))], progress=False)
    assert page_models.reader is not None and page_models.references is None
    assert note in page_models.notes[0] and "--dataset" in page_models.notes[0]


def test_a_data_set_that_was_asked_for_must_be_there(saved, tmp_path):
    path = str(saved("gan", energy=True))
    with pytest.raises(ValueError, match="There is no file or folder"):
        load_page_models([path], dataset=str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="has no split `nights`"):
        load_page_models([path], dataset="smalltalk", split="nights")


def test_a_data_set_of_another_language_is_refused(saved, tmp_path):
    (tmp_path / "test.csv").write_text("query,response\nbonjour,salut\n")
    with pytest.raises(ValueError, match=r"No response of test.csv, test has a word that the energy .* knows"):
        load_page_models([str(saved("gan", energy=True))], dataset=str(tmp_path / "test.csv"), progress=False)


# ---- models ----


def test_a_model_that_is_not_there_is_named(saved, tmp_path):
    with pytest.raises(OSError, match="There is no folder"):
        load_page_models([str(saved("plain")), str(tmp_path / "absent")])
    for models_ in ([], "plain"):
        with pytest.raises(ValueError, match="`models` must be a list of at least one folder or Hub id"):
            load_page_models(models_)


def test_folders_of_one_name_are_told_apart_and_none_comes_twice(saved):
    first, second = saved("a/run"), saved("b/run", 1)
    assert [one.name for one in load_page_models([str(first), str(second)]).speakers] == [str(first), str(second)]
    with pytest.raises(ValueError, match="Each model can be shown once"):
        load_page_models([str(first), str(first)])


# ---- energies ----


def test_an_energy_of_another_vocabulary_reads_the_text_with_its_own_tokenizer(saved, text_energy, tmp_path):
    tokenizer = another_tokenizer(["you", "hello", "fine", "am", "i", "thanks", "x", "y", "z"])  # 12 tokens
    energy = text_energy(vocab_size=12, vocabulary=vocabulary_fingerprint(tokenizer))
    energy.save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    page_models = load_page_models([str(saved("plain"))], energy=str(tmp_path / "other"))
    expected = measure_locality(energy, tokenizer, "hello", ["i am fine", "thanks you"]).radii
    assert page_models.reader.radii(["hello"] * 2, ["i am fine", "thanks you"]) == pytest.approx(expected, abs=1e-5)


def test_an_energy_without_a_tokenizer_reads_with_the_generators_if_that_fits(saved, text_energy, tmp_path):
    speaker = load_page_models([str(saved("plain"))]).speakers[0]
    text_energy(vocabulary=vocabulary_fingerprint(speaker.tokenizer)).save_pretrained(tmp_path / "same")
    assert load_reader(str(tmp_path / "same"), speaker).tokenizer is speaker.tokenizer
    text_energy(vocab_size=12).save_pretrained(tmp_path / "smaller")
    with pytest.raises(ValueError, match="knows 12 tokens, the generator's tokenizer has 20"):
        load_reader(str(tmp_path / "smaller"), speaker)
    text_energy(vocabulary="0123456789abcdef").save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="was made with another tokenizer than the generator's"):
        load_reader(str(tmp_path / "other"), speaker)


def test_an_energy_with_a_tokenizer_that_is_not_its_own_is_refused(saved, text_energy, tiny_tokenizer, tmp_path):
    speaker = load_page_models([str(saved("plain"))]).speakers[0]
    for name, fields in (("smaller", {"vocab_size": 12}), ("other", {"vocabulary": "0123456789abcdef"})):
        text_energy(**fields).save_pretrained(tmp_path / name)
        tiny_tokenizer.save_pretrained(tmp_path / name)
        with pytest.raises(ValueError, match="is not the one that its energy was made with"):
            load_reader(str(tmp_path / name), speaker)


def test_what_is_no_energy_is_refused(saved):
    path = str(saved("plain"))
    with pytest.raises(ValueError, match="holds a .*, and no energy model"):
        load_page_models([path], energy=path)


def test_an_energy_is_looked_for_beside_a_model_on_the_hub(saved, monkeypatch):
    folder = saved("gan", energy=True)
    asked = []
    monkeypatch.setattr(
        "hf_localgan.demo.loading.snapshot_download",
        lambda name, allow_patterns: asked.append((name, allow_patterns)) or str(folder),
    )
    assert find_energy("owner/name") == str(folder / "energy") and asked == [("owner/name", "energy/*")]
    monkeypatch.undo()
    assert find_energy(str(saved("plain"))) is None


# ---- the start ----


def test_a_taken_port_is_told_before_anything_is_loaded():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"No page can be served at `127.0.0.1`, port {port}"):
            launch(["no/such/folder/at/all"], port=port)
    with pytest.raises(OSError, match="port 99999"):
        check_address("127.0.0.1", 99_999)


def test_without_gradio_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ImportError, match=r"hf-localgan\[demo\]"):
        launch(["plain"])
