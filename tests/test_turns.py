"""Conversations as texts: messages, pairs, joined and shortened histories."""

import pytest

from hf_localgan.turns import (
    Exchange,
    History,
    Turn,
    exchanges,
    instruction_text,
    kept_history,
    make_history,
    query_of,
    read_conversation,
    token_counts,
)


def message(role, content, **more):
    return {"role": role, "content": content, **more}


def talk(*texts):
    """Messages of the user and the assistant in turn."""
    return [message(("user", "assistant")[place % 2], text) for place, text in enumerate(texts)]


def test_messages_become_turns_and_what_is_no_turn_is_counted():
    conversation = read_conversation([
        message("system", "be brief"), message("user", "what time is it"), message("user", "in rome"),
        message("assistant", None, tool_calls=[{"name": "clock"}]), message("tool", "12:00"),
        message("assistant", [{"type": "text", "text": "it is"}, {"type": "output_text", "text": "noon"}]),
        message("assistant", "there"),
    ])  # fmt: skip
    assert conversation.turns == [Turn("user", "what time is it\nin rome"), Turn("assistant", "it is noon\nthere")]
    assert conversation.left_out == 3
    shared = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    columns = {"role": ["user", "assistant"], "content": ["a", "b"]}  # how `datasets` holds a sequence of objects
    for same in (
        talk("a", "b"),
        shared,
        columns,
        '[{"role": "user", "content": "a"}, {"role": "model", "content": "b"}]',
    ):
        assert read_conversation(same).turns == [Turn("user", "a"), Turn("assistant", "b")]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([], "the list of messages is empty"),
        ("hello", "a list of messages must stand there, got the text 'hello'"),
        (3, r"a list of messages must stand there, got 3 \(int\)"),
        (["hello"], "message 0 must be an object with `role` and `content`, got 'hello'"),
        ([message("user", "a"), {"role": "user"}], "message 1 must be an object"),
        ([message("user", "a"), message("narrator", "b")], "message 1 has the role 'narrator'; known are user, human"),
        ([message("user", " ")], r"message 0 \(user\) has no text"),
        ([message("assistant", None)], r"message 0 \(assistant\) has no text"),
        ([message("user", {"text": "a"})], "message 0 must be a string or a list of parts, got"),
        ([message("user", [{"type": "image_url"}])], "message 0 has a part of type 'image_url': models here read and"),
        ([message("user", [{"type": "text", "text": 3}])], "message 0 has a part of type 'text'"),
        ([message("user", [3])], "message 0 has a part that is no text: 3"),
    ],
)
def test_what_is_no_conversation_says_why(value, reason):
    with pytest.raises(ValueError, match=reason):
        read_conversation(value)


def test_each_answer_makes_a_pair_with_all_that_came_before():
    turns = read_conversation(talk("a", "b", "c", "d", "e")).turns
    assert list(exchanges(turns)) == [Exchange([], "a", "b"), Exchange(["a", "b"], "c", "d")]
    assert list(exchanges(turns, first=3)) == [Exchange(["a", "b"], "c", "d")]
    greeting = read_conversation([message("assistant", "hi"), *talk("a", "b")]).turns
    assert list(exchanges(greeting)) == [Exchange(["hi"], "a", "b")]


def test_a_query_is_joined_with_its_last_turns():
    texts = ["a", "b | c", "d"]
    assert [History(turns).join(texts) for turns in range(4)] == ["d", "b c | d", "a | b c | d", "a | b c | d"]
    assert History(0).join(["x | y"]) == "x | y"  # nothing is joined, so nothing is replaced
    assert query_of(talk("a", "b", "c"), History(2, " # ")) == "a # b # c"
    for value, reason in ((talk("a", "b"), "ends with a turn of the assistant"), ([message("system", "a")], "no turn")):
        with pytest.raises(ValueError, match=reason):
            query_of(value, History(2))


def test_long_histories_lose_their_oldest_turns_and_no_word_of_the_query(tiny_tokenizer):
    history, lengths = History(9, " . "), token_counts(tiny_tokenizer)
    text = "hello how . are you . fine thanks fine"  # 2 + 1 + 2 + 1 + 3 tokens and the end
    cut = {10: text, 9: "are you . fine thanks fine", 7: "are you . fine thanks fine", 6: "fine thanks fine"}
    for limit, expected in cut.items():
        assert history.fit([text, "hello"], limit, lengths) == [expected, "hello"]
    assert history.fit([text], 2, lengths) == ["fine thanks fine"]  # whole, though it is too long
    assert history.fit([text], None, lengths) == History(0).fit([text], 2, lengths) == [text]


def test_settings_of_a_history_are_checked_and_read_back():
    assert make_history(2) == History(2, " | ") and make_history(0, "#") == History(0, "#")
    for turns in (-1, 1.5, True, "2", None):
        with pytest.raises(ValueError, match="`history_turns` must be a whole number of at least 0"):
            make_history(turns)
    for separator in ("", " \n", 3):
        with pytest.raises(ValueError, match="`turn_separator` must be a text with a sign that is seen"):
            make_history(1, separator)
    assert kept_history({"history_turns": 2, "turn_separator": "#"}) == History(2, "#")
    assert kept_history({}) is kept_history({"history_turns": "many"}) is None


def test_an_instruction_stands_over_what_it_is_to_be_done_to():
    assert instruction_text("add", "1 2") == "add\n1 2"
    assert instruction_text("say", " ") == instruction_text("say", None) == "say" and instruction_text(3, "a") == 3
