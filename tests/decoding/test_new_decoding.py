"""A way of decoding that this file invents, in every place that answers; and names of decodings."""

import io
import json
import sys
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rich.console import Console
from transformers import LogitsProcessorList, SuppressTokensLogitsProcessor, pipeline

from hf_localgan.chat import Chat, answer_lines
from hf_localgan.cli import main
from hf_localgan.data import WordVectors
from hf_localgan.decoding import Decoding, answer_all, answer_queries, answers, register_decoding
from hf_localgan.demo.answers import compare_answers, read_settings
from hf_localgan.demo.loading import PageModels, Speaker
from hf_localgan.evaluation import evaluate_generator
from hf_localgan.evaluation.runs import Run
from hf_localgan.evaluation.stored import stored_evaluation
from hf_localgan.pipelines import register_pipeline
from hf_localgan.recipes.settings.evaluation import EvaluationArguments
from hf_localgan.responses import ChatSettings, respond
from hf_localgan.trainers import ResponseMonitor, SampleTableCallback

QUERIES = ["hello how are you ?", "what is your name", "fine"]
REFERENCES = [["fine thanks !"], ["my name is what"], ["hello", "hello you"]]
LONGEST = 6


@dataclass(frozen=True)
class Without(Decoding):
    """Greedy decoding that never says one word."""

    word: str = ""

    @classmethod
    def of(cls, word: str) -> "Without":
        return cls(f"without {word}", Decoding.greedy().arguments, word=word)

    def settings(self):
        return {**self.arguments, "without": self.word}

    def generate(self, model, batch, *, tokenizer, **more):
        forbidden = SuppressTokensLogitsProcessor([tokenizer.convert_tokens_to_ids(self.word)], device="cpu")
        return super().generate(
            model, batch, tokenizer=tokenizer, logits_processor=LogitsProcessorList([forbidden]), **more
        )


@dataclass(frozen=True)
class Longest(Decoding):
    """The longest of some samples: it draws, re-ranks, and gives one answer."""

    candidates: int = 8

    def generate(self, model, batch, *, tokenizer, num_return_sequences=1, max_new_tokens, **more):
        drawn = super().generate(
            model, batch, tokenizer=tokenizer, num_return_sequences=self.candidates * num_return_sequences,
            max_new_tokens=max_new_tokens, **more,
        )  # fmt: skip
        lengths = (drawn != tokenizer.pad_token_id).sum(dim=1).view(-1, self.candidates)
        return drawn[torch.arange(0, len(drawn), self.candidates) + lengths.argmax(dim=1)]


LONGEST_OF_8 = Longest("longest of 8", Decoding.sampling(2.0).arguments)


@pytest.fixture(autouse=True)
def without(monkeypatch):
    """The word that greedy answers begin with is known by name, for as long as a test runs."""
    monkeypatch.setattr(answers, "_REGISTRY", dict(answers._REGISTRY))
    register_decoding("without", Without.of, "without hello")


@pytest.fixture
def model(tiny_generator):
    return tiny_generator(seed=3)


@pytest.fixture
def word(model, tiny_tokenizer) -> str:
    """One that greedy answers have."""
    said = answer_queries(model, tiny_tokenizer, QUERIES, Decoding.greedy(), max_new_tokens=LONGEST)
    return " ".join(text for (text,) in said).split()[0]


@pytest.fixture
def expected(model, tiny_tokenizer, word) -> list[str]:
    """What is said without it, by hand: at each step the most probable token but this one and what has ended."""
    forbidden = tiny_tokenizer.convert_tokens_to_ids(word)
    texts = []
    for query in QUERIES:
        ids = [1]
        inputs = tiny_tokenizer(query, return_tensors="pt")
        while len(ids) <= LONGEST and ids[-1] != 2:
            with torch.no_grad():
                logits = model(**inputs, decoder_input_ids=torch.tensor([ids])).logits[0, -1]
            logits[forbidden] = -torch.inf
            ids.append(int(logits.argmax()))
        texts.append(tiny_tokenizer.decode(ids, skip_special_tokens=True))
    assert any(texts) and not any(word in text.split() for text in texts)
    return texts


def test_answer_queries(model, tiny_tokenizer, word, expected):
    said = answer_queries(model, tiny_tokenizer, QUERIES, Without.of(word), max_new_tokens=LONGEST)
    assert said == [[text] for text in expected]


def test_candidates_are_drawn_and_ranked(model, tiny_tokenizer):
    batch, drawn = tiny_tokenizer(QUERIES[:2], padding=True, return_tensors="pt"), []
    for decoding, number in ((LONGEST_OF_8, 1), (Decoding.sampling(2.0), 8)):
        torch.manual_seed(4)
        drawn.append(
            decoding.generate(
                model, batch, tokenizer=tiny_tokenizer, num_return_sequences=number, max_new_tokens=LONGEST
            )
        )
    for best, candidates in zip(drawn[0], drawn[1].view(2, 8, -1), strict=True):
        lengths = (candidates != 0).sum(dim=1)
        assert torch.equal(best, candidates[lengths.argmax()]) and lengths.max() > lengths.min()


def test_evaluation_with_its_files_and_pictures(model, tiny_tokenizer, word, expected, tmp_path):
    words = "hello how are you i am fine thanks what is your name my ? . !".split()
    vectors = WordVectors(words, np.random.default_rng(0).normal(size=(len(words), 5)), name="random")
    ways = [Decoding.greedy(), Without.of(word), LONGEST_OF_8, Decoding.sampling(1.0)]
    evaluation = evaluate_generator(
        model, tiny_tokenizer, QUERIES, REFERENCES, decodings=ways, vectors=vectors, resamples=20, num_samples=2,
        max_new_tokens=LONGEST,
    )  # fmt: skip
    assert evaluation.answers[f"without {word}"] == expected
    assert evaluation.samples_table().columns[-2].header == "longest of 8"  # one answer, no point of a sweep
    evaluation.write(tmp_path)
    assert (tmp_path / "diversity_relevance.png").stat().st_size > 0
    stored = json.loads((tmp_path / "evaluation.json").read_text())["decodings"]
    assert stored[f"without {word}"]["generate"] == {"do_sample": False, "num_beams": 1, "without": word}
    run = Run.read(tmp_path)
    assert [run.temperature(one.name) for one in ways] == [None, None, None, 1.0]
    read = stored_evaluation(tmp_path)
    assert [(one.name, one.temperature) for one in read.decodings] == [(one.name, one.temperature) for one in ways]


def test_the_monitor_of_a_training(model, tiny_tokenizer, word, expected):
    monitor = ResponseMonitor(
        QUERIES, REFERENCES, tiny_tokenizer, tokenization="whitespace", max_new_tokens=LONGEST,
        decoding=Without.of(word),
    )  # fmt: skip
    assert monitor.measure(model)["length"] == pytest.approx(sum(len(text.split()) for text in expected) / 3)
    drawing = ResponseMonitor(QUERIES, REFERENCES, tiny_tokenizer, max_new_tokens=LONGEST, decoding=LONGEST_OF_8)
    assert drawing.measure(model) == drawing.measure(model)


def test_the_table_of_samples(model, tiny_tokenizer, word, expected):
    trainer = SimpleNamespace(
        model=model.train(), processing_class=tiny_tokenizer, accelerator=SimpleNamespace(unwrap_model=lambda one: one)
    )
    rows = [{**tiny_tokenizer(query), "labels": [4, 2]} for query in QUERIES]
    args = SimpleNamespace(sample_max_new_tokens=LONGEST, seed=1)
    state = torch.get_rng_state()
    said = SampleTableCallback(trainer, rows, Without.of(word)).answer(args)
    assert [row["generation"] for row in said] == expected and model.training
    drawing = SampleTableCallback(trainer, rows, LONGEST_OF_8)
    assert drawing.answer(args) == drawing.answer(args)
    assert torch.equal(torch.get_rng_state(), state)  # training is the same with and without it


def test_chat(model, tiny_tokenizer, word, expected, monkeypatch, tmp_path, capsys):
    settings = ChatSettings(max_new_tokens=LONGEST, decoding=Without.of(word))
    assert [text for ((text, _),) in respond(model, tiny_tokenizer, QUERIES, settings)] == expected
    output = io.StringIO()
    answer_lines(model, tiny_tokenizer, settings, QUERIES, output)
    assert output.getvalue().splitlines() == expected
    typed = iter([f"/set decoding without {word}", QUERIES[0], "/quit"])
    shown = io.StringIO()
    console = Console(file=shown, width=200, color_system=None)
    Chat(model, tiny_tokenizer, ChatSettings(max_new_tokens=LONGEST), console, lambda: next(typed)).run()
    assert shown.getvalue().splitlines()[-2:] == [f"without {word}, at most {LONGEST} tokens", expected[0]]
    # The command, by the decoding's name.
    model.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(QUERIES)))
    options = ["--decoding", f"without {word}", "--max-new-tokens", str(LONGEST)]
    assert main(["chat", str(tmp_path), *options]) == 0
    assert capsys.readouterr().out.splitlines() == expected


def test_scores_of_a_chat_are_those_of_what_was_chosen(model, tiny_tokenizer):
    torch.manual_seed(0)
    settings = ChatSettings(max_new_tokens=LONGEST, num_return_sequences=2, decoding=LONGEST_OF_8)
    (responses,) = respond(model, tiny_tokenizer, QUERIES[:1], settings)
    inputs = tiny_tokenizer(QUERIES[0], return_tensors="pt")
    for text, score in responses:
        ids = tiny_tokenizer.convert_tokens_to_ids(text.split())
        labels = torch.tensor([ids + ([2] if len(ids) < LONGEST else [])])
        with torch.no_grad():
            assert score == pytest.approx(-model(**inputs, labels=labels).loss.item(), abs=1e-5)


def test_the_pipeline(model, tiny_tokenizer, word, expected):
    register_pipeline()
    pipe = pipeline("text2text-generation", model=model, tokenizer=tiny_tokenizer, device="cpu")
    wanted = [{"generated_text": text} for text in expected]
    for batch_size in (1, 2):
        given = {"decoding": Without.of(word), "max_new_tokens": LONGEST, "batch_size": batch_size}
        assert pipe(QUERIES, **given) == wanted
    several = pipe(QUERIES, decoding=LONGEST_OF_8, max_new_tokens=LONGEST, num_return_sequences=3)
    assert [len(one) for one in several] == [3, 3, 3]


def test_the_page(model, tiny_tokenizer, word, expected):
    page_models = PageModels([Speaker("first", "first", "", model, tiny_tokenizer)])
    settings = read_settings(f"without {word}", answers=3, max_new_tokens=LONGEST)  # a search gives one
    found = compare_answers(page_models, QUERIES[0], settings)
    assert [one.text for one in found.answers["first"]] == expected[:1]
    settings = read_settings("temperature 2", answers=3, max_new_tokens=LONGEST, seed=5)
    drawn = [compare_answers(page_models, QUERIES[0], settings).answers["first"] for _ in range(2)]
    assert drawn[0] == drawn[1] and len(drawn[0]) == 3


def test_options_name_it_beside_the_others(word):
    def names(**settings):
        return [one.name for one in EvaluationArguments(**settings).chosen_decodings()]

    assert names(decodings=["greedy", f"without {word}", "beam 3"]) == ["greedy", f"without {word}", "beam 3"]
    assert names(decodings=["beam 3"], beams=[3, 4], temperatures=[1]) == ["beam 3", "beam 4", "temperature 1"]


# ---- what a decoding must keep ----


def test_a_decoding_that_drops_answers_is_refused(model, tiny_tokenizer):
    class Dropping(Decoding):
        def generate(self, *args, **kwargs):
            return super().generate(*args, **kwargs)[:-1]

    with pytest.raises(ValueError, match="`dropping` returned 2 answers for 3 queries with 1 each"):
        answer_queries(model, tiny_tokenizer, QUERIES, Dropping("dropping", {}))


def test_two_decodings_of_one_name_are_refused(model, tiny_tokenizer):
    with pytest.raises(ValueError, match="Two decodings are called `greedy`"):
        answer_all(model, tiny_tokenizer, QUERIES, [Decoding.greedy(), Decoding("greedy", {"num_beams": 2})])


# ---- names ----


@pytest.mark.parametrize(
    "decoding", [Decoding.greedy(), Decoding.beam(7), Decoding.sampling(0.85), Without.of("hello")]
)
def test_a_name_gives_the_decoding_back(decoding):
    assert Decoding.parse(decoding.name) == decoding


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "warm",
            "There is no decoding 'warm'. Name one such as `greedy`, `beam 5`, `temperature 0.7`, .*`without hello`",
        ),
        ("", "There is no decoding ''"),
        ("beam", "'beam' has 0 values after `beam`. Write it as in `beam 5`"),
        ("greedy 1", "'greedy 1' has 1 value after `greedy`"),
        ("beam 2.5", "'2.5' must be a whole number"),
        ("beam 1", "at least 2 hypotheses, got 1"),
        ("temperature hot", "'hot' must be a number"),
        ("temperature 0", "A sampling temperature is positive, got 0.0"),
    ],
)
def test_a_name_that_is_none_is_explained_wherever_it_is_given(name, message, capsys):
    for read in (Decoding.parse, read_settings, lambda one: EvaluationArguments(decodings=[one])):
        with pytest.raises(ValueError, match=message):
            read(name)
    assert main(["chat", "m", "--decoding", name]) == 2
    assert message.split(".")[0] in capsys.readouterr().err


def test_what_contradicts_a_name_is_refused(capsys):
    assert main(["chat", "m", "--decoding", "beam 5", "--num-beams", "5"]) == 2
    assert "either --decoding, or --num-beams" in capsys.readouterr().err
    with pytest.raises(ValueError, match="must be at most 5 with the decoding `beam 5`, got 6"):
        ChatSettings(decoding=Decoding.beam(5), num_return_sequences=6)
    with pytest.raises(ValueError, match="`decodings` names none"):
        EvaluationArguments(decodings=[])


@pytest.mark.parametrize(
    ("word", "message"), [("beam", "names a decoding already"), ("a b", "a single word"), ("", "a")]
)
def test_a_word_that_cannot_be_registered(word, message):
    with pytest.raises(ValueError, match=message):
        register_decoding(word, Decoding.greedy, "x")
