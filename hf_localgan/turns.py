"""Conversations as texts: what a message is, which turns a query is joined of, how a long history is shortened.

One place, so that the reader of pairs, the chat, the demo and the pipeline agree. It imports nothing but the standard
library, so that a checkpoint can carry it beside the code of its pipeline.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

USER, ASSISTANT, SYSTEM, TOOL = "user", "assistant", "system", "tool"
ROLES = {
    USER: USER, "human": USER, ASSISTANT: ASSISTANT, "gpt": ASSISTANT, "bot": ASSISTANT, "model": ASSISTANT,
    SYSTEM: SYSTEM, "developer": SYSTEM, TOOL: TOOL, "function": TOOL,
}  # fmt: skip
FIELDS = (("role", "content"), ("from", "value"))  # names of a message's speaker and text
CALLS = ("tool_calls", "function_call")  # fields of a message that asks for a tool
HISTORY_TURNS, TURN_SEPARATOR = "history_turns", "turn_separator"  # names in a tokenizer's configuration
SEPARATOR = " | "
SHOWN = 60  # characters of a value in a message


class History(NamedTuple):
    """How much of a conversation a query holds.

    Attributes:
        turns: earlier turns in front of the query, those of either speaker counted; 0 for none.
        separator: what stands between two turns.
    """

    turns: int = 0
    separator: str = SEPARATOR

    def join(self, texts: Sequence[str]) -> str:
        """The query with the last of the turns before it; a separator inside a turn becomes a space.

        Args:
            texts: turns of both speakers, oldest first; the last is the query.
        """
        kept = texts[-1 - self.turns :]
        return self.separator.join(text.replace(self.separator, " ") for text in kept) if self.turns else kept[-1]

    def fit(self, texts: Sequence[str], limit: int | None, lengths: Callable[[list[str]], list[int]]) -> list[str]:
        """The texts without as many of their oldest turns as are needed to fit; the query itself is never cut.

        Args:
            texts: as `join` makes them.
            limit: most tokens of a text, those that the tokenizer adds included; `None` for any number.
            lengths: returns the number of tokens of each text.
        """
        fitted = list(texts)
        if not self.turns or limit is None:
            return fitted
        while rows := [row for row, text in enumerate(fitted) if self.separator in text]:
            long = [row for row, length in zip(rows, lengths([fitted[row] for row in rows]), strict=True)
                    if length > limit]  # fmt: skip
            if not long:
                break
            for row in long:
                fitted[row] = fitted[row].split(self.separator, 1)[1]
        return fitted


def make_history(turns: Any, separator: Any = None) -> History:
    """The history of two settings.

    Args:
        turns: a whole number from 0.
        separator: a text; `None` for the default.

    Raises:
        ValueError: for other values.
    """
    if isinstance(turns, bool) or not isinstance(turns, int) or turns < 0:
        raise ValueError(f"`{HISTORY_TURNS}` must be a whole number of at least 0, got {turns!r}.")
    separator = SEPARATOR if separator is None else separator
    if not isinstance(separator, str) or not separator.strip():
        raise ValueError(
            f"`{TURN_SEPARATOR}` must be a text with a sign that is seen, such as {SEPARATOR!r}, got {separator!r}."
        )
    return History(turns, separator)


def kept_history(settings: Mapping[str, Any]) -> History | None:
    """The history that a tokenizer's configuration keeps (its `init_kwargs`); `None` where it keeps none."""
    if settings.get(HISTORY_TURNS) is None:
        return None
    try:
        return make_history(settings[HISTORY_TURNS], settings.get(TURN_SEPARATOR))
    except ValueError:
        return None


class Turn(NamedTuple):
    """All that one speaker, `"user"` or `"assistant"`, says at a time."""

    speaker: str
    text: str


class Conversation(NamedTuple):
    """The turns of a conversation, and how many messages are none: those of the system and of tools."""

    turns: list[Turn]
    left_out: int


class Exchange(NamedTuple):
    """A query with its answer.

    Attributes:
        earlier: the turns before the query, oldest first.
        query, response: texts.
    """

    earlier: list[str]
    query: str
    response: str


def is_message(value: Any) -> bool:
    """Whether a value is meant as a message: an object with a speaker and a text, whatever these are."""
    return isinstance(value, Mapping) and any(speaker in value and text in value for speaker, text in FIELDS)


def is_conversation(value: Any) -> bool:
    """Whether a value is a list that begins with a message."""
    return isinstance(value, (list, tuple)) and len(value) > 0 and is_message(value[0])


def read_conversation(value: Any) -> Conversation:
    """The turns of a list of messages, such as `[{"role": "user", "content": "Hello."}]`.

    Messages of the system, results of tools and calls of tools without text are left out. What one speaker says in
    several messages is one turn, on several lines. Parts of text are joined by spaces.

    Args:
        value: a list of messages, the same as JSON, or an object of two lists (speakers and texts). The fields of a
            message are `role` and `content`, or `from` and `value`.

    Raises:
        ValueError: for anything else, unknown roles, messages without text, and parts that are no text. The message
            continues a sentence that names the place.
    """
    turns: list[Turn] = []
    left_out = 0
    for number, message in enumerate(_messages(value)):
        if not is_message(message):
            raise ValueError(f"message {number} must be an object with `role` and `content`, got {message!r:.{SHOWN}}")
        name, field = next(names for names in FIELDS if names[0] in message and names[1] in message)
        speaker = ROLES.get(str(message[name]).lower())
        if speaker is None:
            raise ValueError(f"message {number} has the role {message[name]!r:.{SHOWN}}; known are {', '.join(ROLES)}")
        text = _text(number, message[field])
        calls = any(message.get(call) for call in CALLS)
        if speaker in (SYSTEM, TOOL) or (calls and not text.strip()):
            left_out += 1
        elif not text.strip():
            raise ValueError(f"message {number} ({message[name]}) has no text")
        elif turns and turns[-1].speaker == speaker:
            turns[-1] = Turn(speaker, f"{turns[-1].text}\n{text}")
        else:
            turns.append(Turn(speaker, text))
    return Conversation(turns, left_out)


def _messages(value: Any) -> Sequence[Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise ValueError(f"a list of messages must stand there, got the text {value!r:.{SHOWN}}") from None
    if isinstance(value, Mapping):  # how `datasets` holds a sequence of objects
        for speaker, text in FIELDS:
            speakers, texts = value.get(speaker), value.get(text)
            if isinstance(speakers, (list, tuple)) and isinstance(texts, (list, tuple)) and len(speakers) == len(texts):
                value = [{speaker: role, text: content} for role, content in zip(speakers, texts, strict=True)]
                break
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"a list of messages must stand there, got {value!r:.{SHOWN}} ({type(value).__name__})")
    if not value:
        raise ValueError("the list of messages is empty")
    return value


def _text(number: int, content: Any) -> str:
    """The text of a message."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, (list, tuple)):
        raise ValueError(
            f"the text of message {number} must be a string or a list of parts, got {content!r:.{SHOWN}} "
            f"({type(content).__name__})"
        )
    texts = []
    for part in content:
        if isinstance(part, Mapping):
            media = part.get("type", "text")
            if media not in ("text", "input_text", "output_text") or not isinstance(part.get("text"), str):
                raise ValueError(
                    f"message {number} has a part of type {media!r:.{SHOWN}}: models here read and write text alone"
                )
            part = part["text"]
        if not isinstance(part, str):
            raise ValueError(f"message {number} has a part that is no text: {part!r:.{SHOWN}}")
        texts.append(part)
    return " ".join(texts)


def exchanges(turns: Sequence[Turn], first: int = 0) -> Iterator[Exchange]:
    """Each turn of the assistant with the query that it answers.

    Args:
        turns: speakers in alternation.
        first: place of the first turn whose answers count; those before are history alone.
    """
    for place in range(max(first, 1), len(turns)):
        if turns[place].speaker == ASSISTANT and turns[place - 1].speaker == USER:
            earlier = [turn.text for turn in turns[: place - 1]]
            yield Exchange(earlier, turns[place - 1].text, turns[place].text)


def query_of(value: Any, history: History) -> str:
    """The query that a conversation ends with, joined with its history.

    Args:
        value: as for `read_conversation`; the last turn is the user's.
        history: how many turns are joined.

    Raises:
        ValueError: as `read_conversation`, and for a conversation that ends otherwise.
    """
    turns = read_conversation(value).turns
    if not turns or turns[-1].speaker != USER:
        ends = "has no turn" if not turns else "ends with a turn of the assistant"
        raise ValueError(f"the conversation {ends}, and must end with one of the user, which is answered")
    return history.join([turn.text for turn in turns])


def instruction_text(instruction: Any, addition: Any) -> Any:
    """An instruction with what it is to be done to, on lines of their own; the instruction alone where that is empty.

    What is no text is returned as it is.
    """
    if not isinstance(instruction, str) or not isinstance(addition, str) or not addition.strip():
        return instruction
    return f"{instruction}\n{addition}"


def token_counts(tokenizer: Any) -> Callable[[Iterable[str]], list[int]]:
    """A function that counts the tokens of texts, those that the tokenizer adds included."""

    def lengths(texts: Iterable[str]) -> list[int]:
        texts = list(texts)
        return [len(ids) for ids in tokenizer(texts, verbose=False)["input_ids"]] if texts else []

    return lengths
