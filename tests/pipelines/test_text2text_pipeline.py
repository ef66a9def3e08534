import ast
import json
import logging
from pathlib import Path

import pytest
import torch
import transformers.pipelines
from datasets import Dataset
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel, pipeline
from transformers.pipelines.pt_utils import KeyDataset

from hf_localgan import turns
from hf_localgan.decoding import Decoding
from hf_localgan.pipelines import Text2TextGenerationPipeline, register_pipeline, text2text

register_pipeline()
QUERIES = ["hello how are you ?", "what is your name", "fine"]
SHORT = {"max_new_tokens": 6, "num_beams": 2}


@pytest.fixture(params=["rnn_seq2seq", "t5", "bart"])
def model(request, tiny_generator, tiny_t5, tiny_bart):
    return {
        "rnn_seq2seq": lambda: tiny_generator(),
        "t5": lambda: tiny_t5(initializer_factor=5.0),
        "bart": lambda: tiny_bart(init_std=1.0),
    }[request.param]()


@pytest.fixture
def pipe(model, tiny_tokenizer):
    return pipeline("text2text-generation", model=model, tokenizer=tiny_tokenizer, device="cpu")


def by_hand(pipe, query, **arguments):
    """Texts that `generate` itself gives for one query."""
    encoded = pipe.tokenizer(query, return_tensors="pt")
    ids = pipe.model.generate(**encoded, **{"pad_token_id": 0, **SHORT, **arguments})
    return pipe.tokenizer.batch_decode(ids, skip_special_tokens=True)


def test_a_string_gives_a_list_with_the_text_of_generate(pipe):
    assert isinstance(pipe, Text2TextGenerationPipeline)
    assert pipe(QUERIES[0], **SHORT) == [{"generated_text": by_hand(pipe, QUERIES[0])[0]}]


def test_several_sequences_of_a_string_are_one_flat_list(pipe):
    expected = by_hand(pipe, QUERIES[0], num_beams=3, num_return_sequences=3)
    answers = pipe(QUERIES[0], max_new_tokens=6, num_beams=3, num_return_sequences=3)
    assert answers == [{"generated_text": text} for text in expected]


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_a_list_gives_a_flat_list_in_its_order_whatever_the_batch_size(pipe, batch_size):
    answers = pipe(QUERIES, batch_size=batch_size, **SHORT)
    assert answers == [{"generated_text": by_hand(pipe, query)[0]} for query in QUERIES]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_several_sequences_of_a_list_are_a_list_per_text(pipe, batch_size):
    answers = pipe(QUERIES, batch_size=batch_size, num_return_sequences=2, **SHORT)
    assert answers == [
        [{"generated_text": text} for text in by_hand(pipe, query, num_return_sequences=2)] for query in QUERIES
    ]


@pytest.mark.parametrize(
    "stream",
    [
        lambda: (query for query in QUERIES),
        lambda: map(str, QUERIES),
        lambda: KeyDataset([{"query": query} for query in QUERIES], "query"),
        lambda: KeyDataset(Dataset.from_dict({"text": QUERIES}), "text"),
        lambda: Dataset.from_dict({"text": QUERIES, "label": [1, 2, 3]}).to_iterable_dataset(),
        lambda: Dataset.from_dict({"query": QUERIES}),
        lambda: iter([{"source": query} for query in QUERIES]),
    ],
    ids=["generator", "map", "KeyDataset", "KeyDataset of datasets", "IterableDataset", "Dataset", "rows"],
)
@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_stream_gives_an_iterator_over_lists(pipe, stream, batch_size):
    answers = pipe(stream(), batch_size=batch_size, **SHORT)
    assert not isinstance(answers, list)
    assert list(answers) == [[{"generated_text": by_hand(pipe, query)[0]}] for query in QUERIES]


@pytest.mark.parametrize(
    "inputs",
    [tuple(QUERIES), [{"text": query} for query in QUERIES], Dataset.from_dict({"text": QUERIES})["text"]],
    ids=["tuple", "rows", "column"],
)
def test_other_sequences_are_lists(pipe, inputs):
    assert pipe(inputs, **SHORT) == pipe(QUERIES, **SHORT)


def test_a_row_is_answered_like_its_text(pipe):
    assert pipe({"text": QUERIES[0], "label": 1}, **SHORT) == pipe(QUERIES[0], **SHORT)


def test_nothing_gives_nothing(pipe):
    assert pipe([]) == []
    assert list(pipe(KeyDataset([], "text"))) == []
    assert list(pipe(query for query in [])) == []


def test_return_tensors_gives_the_ids_and_return_text_both(pipe):
    (ids,) = pipe(QUERIES[0], return_tensors=True, **SHORT)
    assert set(ids) == {"generated_token_ids"}
    expected = pipe.model.generate(**pipe.tokenizer(QUERIES[0], return_tensors="pt"), pad_token_id=0, **SHORT)[0]
    assert torch.equal(ids["generated_token_ids"], expected)
    (both,) = pipe(QUERIES[0], return_tensors=True, return_text=True, **SHORT)
    assert set(both) == {"generated_token_ids", "generated_text"}
    assert pipe(QUERIES[0], return_text=True, **SHORT) == pipe(QUERIES[0], **SHORT)
    with pytest.raises(ValueError, match="nothing to return"):
        pipe(QUERIES[0], return_text=False)


def test_answers_of_a_batch_in_ids_are_padded_alike(pipe):
    ids = [answer["generated_token_ids"] for answer in pipe(QUERIES, return_tensors=True, batch_size=3, **SHORT)]
    assert len({len(row) for row in ids}) == 1


def test_sampling_follows_the_seed_and_several_samples_need_no_beams(pipe):
    arguments = {"do_sample": True, "num_beams": 1, "temperature": 2.0, "num_return_sequences": 5, "max_new_tokens": 6}
    torch.manual_seed(3)
    first = pipe(QUERIES[0], **arguments)
    torch.manual_seed(3)
    assert pipe(QUERIES[0], **arguments) == first
    assert len(first) == 5


def test_what_generate_returns_as_an_object_is_understood(pipe):
    assert pipe(QUERIES[0], return_dict_in_generate=True, output_scores=True, **SHORT) == pipe(QUERIES[0], **SHORT)


def rnn_pipe(tiny_generator, tiny_tokenizer, **parameters):
    return pipeline(
        "text2text-generation", model=tiny_generator(), tokenizer=tiny_tokenizer, device="cpu", **parameters
    )


def test_four_beams_and_256_new_tokens_are_the_defaults(tiny_generator, tiny_tokenizer):
    pipe = rnn_pipe(tiny_generator, tiny_tokenizer)
    pipe.model.generation_config.pad_token_id = None
    assert pipe.merge_generation({}) == {"num_beams": 4, "max_new_tokens": 256, "pad_token_id": 0}
    assert pipe.merge_generation({"num_beams": 1, "pad_token_id": 3}) == {
        "num_beams": 1, "max_new_tokens": 256, "pad_token_id": 3,
    }  # fmt: skip


def test_the_call_wins_over_the_constructor_over_the_task_over_the_model_over_the_defaults(
    tiny_generator, tiny_tokenizer
):
    model = tiny_generator()
    model.generation_config.update(max_new_tokens=50, num_beams=2, no_repeat_ngram_size=4, length_penalty=0.5)
    model.config.task_specific_params = {
        "text2text-generation": {"num_beams": 3, "min_length": 2, "no_repeat_ngram_size": 3},
        "summarization": {"num_beams": 9},
    }
    build = {"model": model, "tokenizer": tiny_tokenizer, "device": "cpu"}
    pipe = pipeline("text2text-generation", **build, min_length=1, temperature=0.5)
    merged = pipe.merge_generation({"temperature": 0.7})
    assert merged.pop("pad_token_id", 0) == 0
    # call: temperature; constructor: min_length; task: num_beams, no_repeat_ngram_size; the model's own values (50
    # tokens, length penalty) are left to `generate`, and so the default of 256 tokens is not passed.
    assert merged == {"temperature": 0.7, "min_length": 1, "num_beams": 3, "no_repeat_ngram_size": 3}


def test_a_chosen_max_length_is_not_overridden_by_the_default(pipe):
    assert "max_new_tokens" not in pipe.merge_generation({"max_length": 4})
    (answer,) = pipe(QUERIES[0], max_length=4, return_tensors=True)
    assert len(answer["generated_token_ids"]) <= 4


def test_the_default_length_stays_within_learned_positions(tiny_bart, tiny_tokenizer):
    # 64 positions, one of them for the start token
    pipe = pipeline("text2text-generation", model=tiny_bart(), tokenizer=tiny_tokenizer, device="cpu")
    assert pipe.merge_generation({})["max_new_tokens"] == 63
    (answer,) = pipe(QUERIES[0], return_tensors=True, min_new_tokens=63)
    assert len(answer["generated_token_ids"]) == 64


def test_a_generation_config_of_a_call_replaces_the_constructors_parameters(tiny_generator, tiny_tokenizer):
    pipe = rnn_pipe(tiny_generator, tiny_tokenizer, num_beams=3, max_new_tokens=9)
    config = GenerationConfig(max_new_tokens=4, num_beams=1)
    merged = pipe.merge_generation({"generation_config": config, "length_penalty": 0.5})
    assert set(merged) == {"generation_config"}
    assert (merged["generation_config"].max_new_tokens, merged["generation_config"].num_beams) == (4, 1)
    assert merged["generation_config"].length_penalty == 0.5
    assert config.length_penalty is None or config.length_penalty != 0.5  # the caller's object is not written to
    (expected,) = by_hand(pipe, QUERIES[0], max_new_tokens=4, num_beams=1)
    assert pipe(QUERIES[0], generation_config=config) == [{"generated_text": expected}]


def test_parameters_of_the_constructor_hold_for_every_call(tiny_generator, tiny_tokenizer):
    pipe = rnn_pipe(tiny_generator, tiny_tokenizer, max_new_tokens=3, num_beams=1, return_tensors=True, batch_size=2)
    assert [len(answer["generated_token_ids"]) <= 4 for answer in pipe(QUERIES)] == [True] * 3


def test_a_decoding_answers_in_place_of_generate(pipe):
    for decoding, arguments in ((Decoding.greedy(), {"num_beams": 1}), (Decoding.beam(3), {"num_beams": 3})):
        answers = pipe(QUERIES, decoding=decoding, max_new_tokens=6, batch_size=2)
        assert answers == [{"generated_text": by_hand(pipe, query, **arguments)[0]} for query in QUERIES]
    several = pipe(QUERIES[0], decoding=Decoding.beam(3), max_new_tokens=6, num_return_sequences=3)
    assert several == [
        {"generated_text": text} for text in by_hand(pipe, QUERIES[0], num_beams=3, num_return_sequences=3)
    ]


class Recorded:
    """A decoding that notes what it is called with and answers greedily."""

    def generate(self, model, batch, *, tokenizer, num_return_sequences, max_new_tokens, **more):
        self.called = {"num_return_sequences": num_return_sequences, "max_new_tokens": max_new_tokens, **more}
        return model.generate(**batch, num_beams=1, max_new_tokens=max_new_tokens)


def test_what_a_decoding_is_called_with(tiny_generator, tiny_t5, tiny_tokenizer):
    recorded, numbers = Recorded(), {"num_return_sequences": 1, "max_new_tokens": 9}

    def called(pipe, **given) -> dict:
        pipe(QUERIES[0], **given)
        return recorded.called

    # A decoding of the call takes the place of a search of the constructor; its length and its own processors stay.
    pipe = rnn_pipe(tiny_generator, tiny_tokenizer, num_beams=3, max_length=10, length_penalty=0.5, stop_sequence="you")
    found = called(pipe, decoding=recorded)
    assert len(found.pop("stopping_criteria")) == 1 and found == numbers
    # What stands beside the decoding is handed on.
    assert called(pipe, decoding=recorded, no_repeat_ngram_size=2, max_new_tokens=4).items() >= {
        "no_repeat_ngram_size": 2, "max_new_tokens": 4
    }.items()  # fmt: skip
    pipe = rnn_pipe(tiny_generator, tiny_tokenizer, decoding=recorded, length_penalty=0.5)
    assert called(pipe) == {"num_return_sequences": 1, "max_new_tokens": 256, "length_penalty": 0.5}
    texts = [by_hand(pipe, query, length_penalty=0.5)[0] for query in QUERIES]
    assert pipe(QUERIES, decoding=None, **SHORT) == [{"generated_text": text} for text in texts]
    # Of the parameters for the model's task, the length alone.
    model = tiny_t5()
    model.config.task_specific_params = {"text2text-generation": {"num_beams": 4, "max_length": 10}}
    pipe = pipeline("text2text-generation", model=model, tokenizer=tiny_tokenizer, device="cpu")
    assert called(pipe, decoding=recorded) == numbers


def test_a_decoding_that_cannot_be_is_refused(pipe):
    with pytest.raises(ValueError, match=r"must have a method `generate`.*got 'beam 5'.*`Decoding.parse`"):
        pipe(QUERIES[0], decoding="beam 5")
    with pytest.raises(ValueError, match="either `decoding` or `generation_config`"):
        pipe(QUERIES[0], decoding=Decoding.greedy(), generation_config=GenerationConfig(num_beams=2))


def test_an_unknown_argument_is_refused_by_generate(pipe):
    with pytest.raises(ValueError, match="bogus"):
        pipe(QUERIES[0], bogus=1)


def test_a_stop_sequence_ends_the_answer_that_contains_it(pipe):
    whole = pipe(QUERIES[0], max_new_tokens=20, num_beams=1, min_new_tokens=20)[0]["generated_text"].split()
    stop = whole[2]
    expected = " ".join(whole[: whole.index(stop) + 1])
    settings = {"max_new_tokens": 20, "min_new_tokens": 20}
    for given in (stop, [stop, "nowhere"]):
        for name in ("stop_sequence", "stop_strings"):
            assert pipe(QUERIES[0], num_beams=1, **settings, **{name: given}) == [{"generated_text": expected}]
        # `Decoding.generate` and the recurrent models' own `generate` stop there, too.
        greedy = Decoding.greedy()
        encoded = pipe.tokenizer(QUERIES[0], return_tensors="pt")
        ids = [greedy.generate(pipe.model, encoded, tokenizer=pipe.tokenizer, stop_strings=given, **settings)]
        if pipe.model.config.model_type == "rnn_seq2seq":
            ids.append(
                pipe.model.generate(**encoded, num_beams=1, **settings, stop_strings=given, tokenizer=pipe.tokenizer)
            )
        assert {pipe.tokenizer.decode(rows[0], skip_special_tokens=True) for rows in ids} == {expected}
    with pytest.raises(ValueError, match="stop_sequence"):
        pipe(QUERIES[0], stop_sequence="")


def test_a_stop_sequence_may_have_several_tokens(pipe):
    words = pipe(QUERIES[0], max_new_tokens=12, num_beams=1, min_new_tokens=12)[0]["generated_text"].split()
    stop = " ".join(words[3:5])
    beginnings = (" ".join(words[:length]) for length in range(1, len(words) + 1))
    expected = next(text for text in beginnings if stop in text)
    answer = pipe(QUERIES[0], max_new_tokens=12, num_beams=1, min_new_tokens=12, stop_sequence=stop)
    assert answer == [{"generated_text": expected}]


def test_truncation_cuts_the_input_at_the_tokenizers_limit(pipe):
    pipe.tokenizer.model_max_length = 4  # three words and the end of sequence
    assert pipe.preprocess("what is your name my name", truncation=True)["input_ids"].shape == (1, 4)
    assert pipe("what is your name my name", truncation=True, **SHORT) == pipe("what is your", **SHORT)


def test_spaces_are_cleaned_up_on_request(pipe, monkeypatch):
    monkeypatch.setattr(pipe.model, "generate", lambda **_: torch.tensor([[1, 5, 6, 7, 17, 2]]))
    assert pipe("hello") == [{"generated_text": "how are you ?"}]
    assert pipe("hello", clean_up_tokenization_spaces=True) == [{"generated_text": "how are you?"}]


@pytest.mark.parametrize("where", ["task", "config", "call"])
def test_a_prefix_is_put_before_every_input(tiny_generator, tiny_tokenizer, where):
    model, parameters = tiny_generator(), {}
    plain = pipeline("text2text-generation", model=model, tokenizer=tiny_tokenizer, device="cpu")
    expected = plain(["what is " + query for query in QUERIES], **SHORT)
    if where == "task":
        model.config.task_specific_params = {"text2text-generation": {"prefix": "what is "}}
    elif where == "config":
        model.config.prefix = "what is "
    else:
        parameters = {"prefix": "what is "}
    pipe = pipeline("text2text-generation", model=model, tokenizer=tiny_tokenizer, device="cpu")
    assert pipe(QUERIES, **SHORT, **parameters) == expected
    if where == "task":  # the configuration is not used up
        assert model.config.task_specific_params == {"text2text-generation": {"prefix": "what is "}}


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        (3, TypeError, "got int"),
        (None, TypeError, "got NoneType"),
        ([QUERIES], TypeError, "got list"),
        ([1, 2], TypeError, "got int"),
        ([{"label": 1}], ValueError, "`text`, `query`, `source`, .*`messages`; found: `label`"),
        ({"text": None}, TypeError, "got NoneType"),
        (b"hello", TypeError, "got bytes: b'hello'"),
        (["hello", b"fine"], TypeError, r"Input 1 of 2: .* got bytes: b'fine'. Decode them first"),
        (["hello", None], TypeError, r"Input 1 of 2: .* got NoneType: None. Leave missing texts out."),
        ([["hello"]], TypeError, r"got list: \['hello'\]. Texts stand in one flat list."),
        ([{"role": "narrator", "content": "hi"}], ValueError, "message 0 has the role 'narrator'; known are user"),
        (
            [[{"role": "user", "content": "hi"}], [{"role": "assistant", "content": "hi"}]],
            ValueError,
            "Input 1 of 2: the conversation ends with a turn of the assistant",
        ),
        (["hello", [{"role": "user", "content": [{"type": "image"}]}]], ValueError, "Input 1 of 2: .*type 'image'"),
        ({"role": "user", "content": "hi"}, TypeError, "got one message: .*Messages stand in a list"),
        ({"messages": []}, ValueError, "the list of messages is empty"),
        ({}, ValueError, "found: nothing"),
    ],
)
def test_other_inputs_are_refused_before_any_is_answered(tiny_generator, tiny_tokenizer, inputs, error, message):
    pipe = rnn_pipe(tiny_generator, tiny_tokenizer)
    pipe.model.generate = None
    with pytest.raises(error, match=message):
        pipe(inputs)


def test_a_surrogate_costs_no_other_answer_and_is_told_once(pipe, caplog):
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    broken = ["hello", "how \ud800 are", "\udc80", "\ud83d\ude00 fine"]
    answers = pipe(broken, batch_size=2, **SHORT)
    logger.removeHandler(caplog.handler)
    assert answers == pipe(["hello", "how \ufffd are", "\ufffd", "\U0001f600 fine"], batch_size=2, **SHORT)
    assert [record.getMessage() for record in caplog.records if "surrogates" in record.getMessage()] == [
        "The input 'how \\ud800 are' holds surrogates, no characters: halves of emoji, or bytes that are no UTF-8. "
        "Pairs of them are joined, and U+FFFD stands in the place of others. Later ones are not told."
    ]


@pytest.mark.parametrize("task", ["text2text-generation", "summarization", "translation", "translation_en_to_fr"])
def test_a_task_without_a_model_says_what_it_needs(task):
    with pytest.raises(ValueError, match="no default model for .*: give `model`, the folder or Hub id"):
        pipeline(task)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_beams": 0}, "`num_beams` must be at least 1, got 0"),
        ({"num_return_sequences": -1}, "`num_return_sequences` must be at least 1, got -1"),
        ({"prefix": 3}, "`prefix` must be a string, got int: 3"),
        ({"stop_strings": "a", "stop_sequence": "b"}, "either `stop_sequence` or `stop_strings`"),
    ],
)
def test_options_that_cannot_be_are_refused(pipe, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        pipe("hello", **options)


def test_an_input_without_any_token_is_refused(tiny_generator, tiny_tokenizer):
    tiny_tokenizer.backend_tokenizer.post_processor = None  # no end of sequence is added
    with pytest.raises(ValueError, match="has no tokens"):
        rnn_pipe(tiny_generator, tiny_tokenizer)("")


def test_a_causal_language_model_is_refused(tiny_tokenizer):
    model = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_embd=8, n_layer=1, n_head=1))
    with pytest.raises(ValueError, match="needs an encoder-decoder.*GPT2LMHeadModel"):
        pipeline("text2text-generation", model=model, tokenizer=tiny_tokenizer)


def test_a_folder_is_enough_and_saving_the_pipeline_keeps_it_so(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    assert "custom_pipelines" not in json.loads((tmp_path / "config.json").read_text())
    assert not list(tmp_path.glob("*.py"))
    loaded = pipeline("text2text-generation", model=str(tmp_path), device="cpu")
    assert type(loaded.model) is type(pipe.model)
    assert loaded(QUERIES, **SHORT) == pipe(QUERIES, **SHORT)


def test_registering_twice_is_silent_and_leaves_other_peoples_pipelines_alone(monkeypatch, caplog):
    before = dict(transformers.pipelines.PIPELINE_REGISTRY.supported_tasks)
    register_pipeline()
    assert transformers.pipelines.PIPELINE_REGISTRY.supported_tasks == before
    foreign = {"impl": object, "pt": ()}
    monkeypatch.setitem(transformers.pipelines.PIPELINE_REGISTRY.supported_tasks, "text2text-generation", foreign)
    register_pipeline()
    assert transformers.pipelines.PIPELINE_REGISTRY.supported_tasks["text2text-generation"] is foreign
    assert not caplog.records


def test_the_file_can_travel_with_a_checkpoint():
    tree = ast.parse(Path(text2text.__file__).read_text(encoding="utf-8"))
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    outside = {module for module in modules if module != "hf_localgan.turns"}  # the export copies it, too
    assert {module.split(".")[0] for module in outside} <= {"collections", "copy", "typing", "torch", "transformers"}
    tree = ast.parse(Path(turns.__file__).read_text(encoding="utf-8"))
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert modules == {"collections.abc", "typing"}


# ---- conversations ----

TALK = [
    {"role": "system", "content": "you are fine"},
    {"role": "user", "content": "hello"},
    {"role": "assistant", "content": "how are you"},
    {"role": "user", "content": [{"type": "text", "text": "fine"}, {"type": "text", "text": "thanks"}]},
]


@pytest.mark.parametrize(
    ("turns", "expected"),
    [(0, "fine thanks"), (1, "how are you . fine thanks"), (9, "hello . how are you . fine thanks")],
)
def test_a_conversation_is_read_with_as_many_turns_as_the_model_was_trained_on(
    tiny_generator, tiny_tokenizer, turns, expected
):
    pipe = rnn_pipe(tiny_generator, tiny_tokenizer)
    pipe.tokenizer.init_kwargs |= {"history_turns": turns, "turn_separator": " . "}
    answer = pipe(expected, **SHORT)
    assert pipe(TALK, **SHORT) == pipe({"messages": TALK}, **SHORT) == pipe({"prompt": TALK}, **SHORT) == answer
    batch = pipe([TALK, TALK[1:2], {"messages": TALK}, "hello"], batch_size=2, **SHORT)
    assert batch == pipe([expected, "hello", expected, "hello"], **SHORT)
    assert list(pipe(iter([TALK, TALK]), **SHORT)) == [answer, answer]
    assert pipe("hello", **SHORT) == pipe(TALK[1:2], **SHORT)  # a plain string is a query, as ever


def test_the_oldest_turns_are_left_out_where_they_do_not_fit_and_the_query_never(tiny_bart, tiny_tokenizer):
    pipe = pipeline("text2text-generation", model=tiny_bart(), tokenizer=tiny_tokenizer, device="cpu")
    pipe.tokenizer.init_kwargs |= {"history_turns": 9, "turn_separator": " . "}
    talk = [
        {"role": "user", "content": "hello " * 50},
        {"role": "assistant", "content": "fine"},
        {"role": "user", "content": "how are you " * 18},
    ]  # 50 + 1 + 54 tokens, two separators and an end; the model has 64 positions
    assert pipe.read(talk) == "fine . " + "how are you " * 18
    assert pipe.read(talk, prefix="hello " * 8) == "hello " * 8 + "how are you " * 18
    assert pipe(talk, **SHORT) == pipe("fine . " + "how are you " * 18, **SHORT)


def test_rows_of_instructions_are_read_as_in_training(pipe):
    row = {"instruction": "what is", "input": "your name", "output": "hello"}
    assert pipe(row, **SHORT) == pipe("what is\nyour name", **SHORT)
    assert pipe({"prompt": "hello", "completion": "fine"}, **SHORT) == pipe("hello", **SHORT)
