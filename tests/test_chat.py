import io
import json
import math

import pytest
import torch
from rich.console import Console
from tokenizers.normalizers import Replace

from hf_localgan.chat import Chat, answer_lines
from hf_localgan.decoding import Decoding
from hf_localgan.responses import ChatSettings, respond


@pytest.fixture
def parts(tiny_generator, tiny_tokenizer):
    return tiny_generator(), tiny_tokenizer


def session(parts, lines, settings=None):
    """What a session shows for the lines that a user types; a line that is an exception is raised."""
    typed, output = iter(lines), io.StringIO()

    def read():
        line = next(typed, None)
        if line is None:
            raise EOFError
        if isinstance(line, type):
            raise line
        return line

    console = Console(file=output, width=200, color_system=None)
    chat = Chat(*parts, settings or ChatSettings(max_new_tokens=5), console, read)
    chat.run()
    return output.getvalue(), chat.settings, list(typed)


def greedy(parts, query, **arguments):
    model, tokenizer = parts
    ids = model.generate(**tokenizer(query, return_tensors="pt"), **{"max_new_tokens": 5, "num_beams": 1, **arguments})
    return tokenizer.batch_decode(ids, skip_special_tokens=True)


def test_the_default_is_the_greedy_response(parts):
    (responses,) = respond(*parts, ["hello how are you"], ChatSettings(max_new_tokens=5))
    assert responses == [(greedy(parts, "hello how are you")[0], None)]


def test_a_batch_is_answered_like_its_queries_alone(parts):
    queries, settings = ["hello how are you ?", "fine", "what is your name"], ChatSettings(max_new_tokens=5)
    assert respond(*parts, queries, settings) == [respond(*parts, [query], settings)[0] for query in queries]


def test_the_score_of_a_model_that_knows_nothing_is_that_of_a_uniform_draw(parts):
    model, tokenizer = parts
    torch.nn.init.zeros_(model.lm_head.weight)  # all 20 tokens have the logit 0, so log p = -log 20 for each
    settings = ChatSettings(do_sample=True, num_return_sequences=4, max_new_tokens=6)
    for response in respond(model, tokenizer, ["hello"], settings)[0]:
        assert response.score == pytest.approx(-math.log(20))


@pytest.mark.parametrize("kind", ["rnn_seq2seq", "t5", "bart"])
def test_the_score_is_the_models_own_loss_with_its_sign_changed(
    tiny_generator, tiny_t5, tiny_bart, tiny_tokenizer, kind
):
    model = {"rnn_seq2seq": tiny_generator, "t5": tiny_t5, "bart": tiny_bart}[kind]()
    settings = ChatSettings(num_beams=4, num_return_sequences=4, max_new_tokens=6)
    groups = respond(model, tiny_tokenizer, ["hello how", "fine"], settings)
    for query, group in zip(("hello how", "fine"), groups, strict=True):
        assert [response.score for response in group] == sorted((one.score for one in group), reverse=True)
        inputs = tiny_tokenizer(query, return_tensors="pt")
        beams = {"num_beams": 4, "num_return_sequences": 4, "max_new_tokens": 6, "do_sample": False}
        ids = model.generate(**inputs, **beams, pad_token_id=0)
        expected = []
        for row in ids.tolist():
            response = row[1 : row.index(2, 1) + 1] if 2 in row[1:] else row[1:]
            with torch.no_grad():
                expected.append(-model(**inputs, labels=torch.tensor([response])).loss.item())
        assert [response.score for response in group] == pytest.approx(sorted(expected, reverse=True), abs=1e-5)


def test_sampling_is_from_the_whole_vocabulary_unless_told_otherwise():
    sampling = {"do_sample": True, "num_beams": 1, "temperature": 0.7, "top_k": 0, "top_p": 1.0}
    assert ChatSettings(do_sample=True, temperature=0.7).make_decoding().arguments == sampling
    narrow = ChatSettings(do_sample=True, temperature=0.7, top_p=0.9, num_beams=2).make_decoding()
    assert narrow.arguments == sampling | {"top_p": 0.9, "num_beams": 2}
    assert narrow.name == "temperature 0.7, top-p 0.9, 2 beams"


def test_settings_make_the_decodings_of_the_evaluation():
    for settings, decoding in (
        (ChatSettings(), Decoding.greedy()),
        (ChatSettings(num_beams=5), Decoding.beam(5)),
        (ChatSettings(do_sample=True, temperature=0.7), Decoding.sampling(0.7)),
    ):
        assert settings.make_decoding() == decoding


def test_queries_beyond_the_models_positions_are_cut_and_responses_stay_within_them(tiny_bart, tiny_tokenizer):
    model = tiny_bart()  # 64 positions
    settings = ChatSettings(max_new_tokens=500)
    long, cut = " ".join(["hello"] * 200), " ".join(["hello"] * 63)
    assert respond(model, tiny_tokenizer, [long], settings) == respond(model, tiny_tokenizer, [cut], settings)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"temperature": 0.0}, "`temperature` must be above 0"),
        ({"temperature": float("nan")}, "`temperature`"),
        ({"top_p": 1.1}, "`top_p`"),
        ({"num_beams": 0}, "`num_beams` must be at least 1, got 0"),
        ({"max_new_tokens": -3}, "`max_new_tokens`"),
        ({"num_return_sequences": 3, "num_beams": 2}, "`num_beams` of at least 3, got 2"),
        ({"temperature": 1e-40, "do_sample": True}, "`temperature` must be at least 1e-06, got 1e-40"),
        ({"seed": 2**64}, "`seed` must be a whole number from -2.63 to 2.64 - 1, got 18446744073709551616"),
        ({"num_beams": 10**30}, "`num_beams` must be at most 10,000"),
        ({"max_new_tokens": 10**30}, "`max_new_tokens` must be at most 1,000,000"),
    ],
)
def test_settings_that_cannot_be_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        ChatSettings(**fields)


def test_a_session_answers_and_ends_with_its_input(parts):
    shown, _, _ = session(parts, ["hello how are you", "", "fine"])
    assert greedy(parts, "hello how are you")[0] in shown and greedy(parts, "fine")[0] in shown
    assert "without memory" in shown and "/help" in shown


@pytest.mark.parametrize("end", ["/quit", "/exit", EOFError, KeyboardInterrupt])
def test_a_session_can_be_left(parts, end):
    _, _, unread = session(parts, [end, "hello"])
    assert unread == ["hello"]


def test_settings_change_by_command(parts):
    shown, settings, _ = session(parts, ["/set temperature 0.7", "/set num_return_sequences 3", "hello", "/set"])
    assert settings == ChatSettings(do_sample=True, temperature=0.7, num_return_sequences=3, max_new_tokens=5)
    assert "log p / token" in shown and "sampling, temperature 0.7" in shown
    _, settings, _ = session(parts, ["/sample", "/set num_beams 5", "/set max_new_tokens 7", "/set seed 4"])
    assert settings == ChatSettings(num_beams=5, max_new_tokens=7, seed=4)
    _, settings, _ = session(parts, ["/set num_beams 5", "/set num_return_sequences 5", "/greedy"])
    assert settings == ChatSettings(max_new_tokens=5)
    _, settings, _ = session(parts, ["/set num_beams 5", "/set decoding temperature 0.7"])
    assert settings.make_decoding() == Decoding.sampling(0.7)
    for line, fields in (
        ("/greedy", {}),
        ("/sample", {"do_sample": True}),
        ("/set num_beams 3", {"num_beams": 3}),
        ("/set top_p 0.5", {"do_sample": True, "top_p": 0.5}),
    ):
        assert session(parts, ["/set decoding beam 4", line])[1] == ChatSettings(max_new_tokens=5, **fields)
    _, settings, _ = session(parts, ["/set num_beams 5", "/sample"])
    assert settings == ChatSettings(do_sample=True, max_new_tokens=5)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/set temperature warm", "`temperature` must be a number, got 'warm'"),
        ("/set num_beams 2.5", "must be a whole number"),
        ("/set temperature -1", "must be above 0"),
        ("/set colour 3", "There is no setting `colour`"),
        ("/set do_sample 1", "There is no setting `do_sample`"),
        ("/set num_return_sequences 3", "needs sampling"),
        ("/set a b c", "Usage"),
        ("/set decoding", "Usage"),
        ("/set decoding beam five", "'five' must be a whole number"),
        ("/sing", "There is no command /sing"),
        ("/help", "/greedy"),
    ],
)
def test_a_wrong_command_is_explained_and_changes_nothing(parts, line, message):
    shown, settings, _ = session(parts, [line, "hello"])
    assert message in shown
    assert settings == ChatSettings(max_new_tokens=5)
    assert greedy(parts, "hello")[0] in shown


def test_interrupting_an_answer_goes_back_to_the_prompt(parts, monkeypatch):
    model, generate, calls = parts[0], parts[0].generate, []

    def interrupted_once(**arguments):
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return generate(**arguments)

    monkeypatch.setattr(model, "generate", interrupted_once)
    shown, _, unread = session(parts, ["hello", "hello"])
    assert "(stopped)" in shown and len(calls) == 2 and not unread


def test_a_response_that_looks_like_markup_is_shown_as_it_is(parts, monkeypatch):
    monkeypatch.setattr(parts[1], "batch_decode", lambda *_, **__: ["[bold]hi[/bold] [/x]"])
    assert "[bold]hi[/bold] [/x]" in session(parts, ["hello"])[0]


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_each_line_read_gives_one_line_in_its_place(parts, batch_size):
    output = io.StringIO()
    lines = ["hello how are you\n", "\n", "  fine  \n", "/help\n", "hello"]
    answer_lines(*parts, ChatSettings(max_new_tokens=5), lines, output, batch_size)
    expected = [greedy(parts, line.strip())[0] if line.strip() else "" for line in lines]
    assert output.getvalue() == "".join(f"{line}\n" for line in expected)


def answered(parts, lines, settings=None, **arguments):
    """What is written for the lines, and what is told."""
    output, told = io.StringIO(), []
    answer_lines(*parts, settings or ChatSettings(max_new_tokens=5), lines, output, report=told.append, **arguments)
    assert output.getvalue().count("\n") == len(lines)
    return output.getvalue().splitlines(), told


def test_what_is_wrong_with_a_line_costs_no_other(parts):
    hello, fine = (greedy(parts, query)[0] for query in ("hello", "fine"))
    cut = greedy(parts, " ".join(["hello"] * 4095))[0]
    lines = ["\ufeffhello\r\n", "\udcff you\n", "\u200b\n", " \t\n", "hello " * 5000 + "\n", "fine\n"]
    texts, told = answered(parts, lines, batch_size=4)
    assert texts == [hello, greedy(parts, "\ufffd you")[0], "", "", cut, fine]
    assert told == [
        "Line 2 holds bytes or surrogates that are no text; U+FFFD replaces them.",
        "Line 5 has 5,001 tokens; the first 4,096 are read.",
    ]


def test_a_line_without_tokens_gives_an_empty_one(parts):
    model, tokenizer = parts
    tokenizer.backend_tokenizer.post_processor = None  # no end of sequence is added
    tokenizer.backend_tokenizer.normalizer = Replace("fine", "")
    texts, told = answered(parts, ["fine", "hello"])
    assert texts == ["", greedy(parts, "hello")[0]]
    assert told == ["Line 1 has no tokens for this model; its answer is empty."]
    with pytest.raises(ValueError, match="'fine' has no tokens"):
        respond(model, tokenizer, ["hello", "fine"], ChatSettings())


def test_lines_that_need_too_much_memory_are_answered_apart_or_told(parts, monkeypatch):
    generate = parts[0].generate

    def limited(**arguments):
        if len(arguments["input_ids"]) > 2 or arguments["input_ids"].shape[1] > 5:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes.")
        return generate(**arguments)

    lines = ["hello", "fine", "what is your name my name", "thanks"]
    expected = [greedy(parts, line)[0] for line in lines]
    monkeypatch.setattr(parts[0], "generate", limited)
    texts, told = answered(parts, lines)
    assert texts == [*expected[:2], "", expected[3]]
    assert told == ["Line 3 needs more memory than there is; its answer is empty."]
    assert "Not enough memory" in session(parts, ["what is your name my name", "fine"])[0]


def test_an_encoding_that_lacks_characters_costs_no_answer(parts, monkeypatch):
    monkeypatch.setattr(parts[1], "batch_decode", lambda ids, **_: ["caf\xe9 \u4e2d"] * len(ids))
    written, told = io.BytesIO(), []
    output = io.TextIOWrapper(written, encoding="latin-1", newline="")
    answer_lines(*parts, ChatSettings(max_new_tokens=2), ["hello", "fine"], output, report=told.append)
    assert written.getvalue() == b"caf\xe9 ?\n" * 2
    assert told[1].startswith("The answer to line 2 has characters that latin-1 does not; `?` stands in their place.")


@pytest.mark.parametrize("line", ["\udcff\udcfeh\0i\0\n", "h\0i\0\n", "\ufffehi\n"])
def test_utf_16_is_refused(parts, line):
    with pytest.raises(ValueError, match="looks like UTF-16.*iconv"):
        answer_lines(*parts, ChatSettings(), [line], io.StringIO())


def test_bytes_that_cannot_be_decoded_do_not_end_a_session(parts):
    class Undecodable(UnicodeDecodeError):
        def __init__(self):
            super().__init__("utf-8", b"\xff", 0, 1, "invalid start byte")

    shown, _, _ = session(parts, [Undecodable, "\udcff you", "fine"])
    assert "bytes that are no utf-8" in shown
    assert greedy(parts, "\ufffd you")[0] in shown and greedy(parts, "fine")[0] in shown


def test_several_responses_to_a_line_are_separated_by_tabs(parts):
    output = io.StringIO()
    settings = ChatSettings(num_beams=3, num_return_sequences=3, max_new_tokens=5)
    answer_lines(*parts, settings, ["hello"], output)
    assert sorted(output.getvalue().rstrip("\n").split("\t")) == sorted(
        greedy(parts, "hello", num_beams=3, num_return_sequences=3)
    )


# ---- conversations ----


def remembering(parts, turns):
    model, tokenizer = parts
    tokenizer.init_kwargs |= {"history_turns": turns, "turn_separator": " . "}
    return model, tokenizer


def message(role, content):
    return {"role": role, "content": content}


@pytest.mark.parametrize("turns", [0, 1, 2, 9])
def test_a_session_remembers_as_many_turns_as_the_model_was_trained_on(tiny_generator, tiny_tokenizer, turns):
    model, tokenizer = remembering((tiny_generator(3), tiny_tokenizer), turns)  # which has something to say
    said, answers = [], []
    for query in ("hello", "how are you ?", "fine thanks"):
        read = " . ".join([*said, query][-1 - turns :])
        answers.append(greedy((model, tokenizer), read)[0])
        said += [query, answers[-1]]
    assert all(answers)
    output, _, _ = session((model, tokenizer), ["hello", "how are you ?", "fine thanks", "/new", "hello"])
    assert output.splitlines()[2:5] == answers and output.splitlines()[-2:] == [answers[0], ""]
    told = {0: "without memory of earlier ones", 1: "with the turn before it", 2: "with the 2 turns before it"}
    assert told.get(turns, "with the 9 turns before it") in output.splitlines()[1]
    assert ("A new conversation." in output) == (turns > 0)


def test_conversations_are_answered_beside_texts(parts):
    model, tokenizer = remembering(parts, 2)
    talk = [message("user", "hello"), message("assistant", "fine"), message("user", "how are you")]
    found = respond(model, tokenizer, [talk, "hello", talk[:1]], ChatSettings(max_new_tokens=5))
    queries = ["hello . fine . how are you", "hello", "hello"]
    assert found == respond(model, tokenizer, queries, ChatSettings(max_new_tokens=5))
    with pytest.raises(ValueError, match="ends with a turn of the assistant"):
        respond(model, tokenizer, [talk[:2]], ChatSettings())


def test_lines_of_json_are_conversations_and_other_lines_are_not(parts):
    model, tokenizer = remembering(parts, 2)
    talk = [message("user", "hello"), message("assistant", "fine"), message("user", "how are you")]
    lines = [
        json.dumps(talk), json.dumps({"messages": talk}), "hello . fine . how are you", "[1, 2]", '{"a": 1}',
        json.dumps(talk[:2]), json.dumps([message("narrator", "hello")]), "fine",
    ]  # fmt: skip
    output, told = io.StringIO(), []
    answer_lines(model, tokenizer, ChatSettings(max_new_tokens=5), lines, output, report=told.append)
    answers = output.getvalue().split("\n")
    assert answers[0] == answers[1] == answers[2] == greedy(parts, "hello . fine . how are you")[0]
    assert [answers[3], answers[4], answers[7]] == [greedy(parts, line)[0] for line in (lines[3], lines[4], "fine")]
    assert answers[5] == answers[6] == "" and len(told) == 2
    assert told[0].startswith("Line 6 cannot be answered: the conversation ends with a turn of the assistant")
    assert told[1].startswith("Line 7 cannot be answered: message 0 has the role 'narrator'")


def test_a_long_conversation_loses_its_oldest_turns(tiny_bart, tiny_tokenizer):
    model, tokenizer = remembering((tiny_bart(), tiny_tokenizer), 9)  # 64 positions
    talk = [message("user", "hello " * 50), message("assistant", "fine"), message("user", "how are you " * 18)]
    settings = ChatSettings(max_new_tokens=5)
    assert respond(model, tokenizer, [talk], settings) == respond(
        model, tokenizer, ["fine . " + "how are you " * 18], settings
    )
