"""Asking a generator in the terminal, or line by line in a pipe.

As many earlier turns are remembered as the generator was trained on, which its tokenizer's configuration says; most
generators are trained on none, and then each query is answered on its own.
torch is imported by the functions that need it, so that wrong settings are reported at once.
"""

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hf_localgan.responses import (
    ChatSettings,
    Query,
    Response,
    history_of,
    longest_query,
    query_text,
    respond,
    set_seed,
)
from hf_localgan.text import is_blank, without_surrogates
from hf_localgan.turns import ASSISTANT, USER, is_conversation, token_counts

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


HELP = """\
/set NAME VALUE   change a setting, for example: /set temperature 0.7, /set num_beams 5, /set decoding beam 5
/set              show the settings
/greedy           the single most probable next word, one answer
/sample           draw words at random
/new              begin a new conversation: forget what was said
/help             this text
/quit             leave (so do Ctrl-D and, at the prompt, Ctrl-C; during an answer Ctrl-C stops that answer)
Everything else is a query."""

LONG_QUERY = 256  # tokens; longer ones are answered alone, for a batch is padded to its longest


def answer_lines(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    settings: ChatSettings,
    lines: Iterable[str],
    output: TextIO,
    batch_size: int = 16,
    report: Callable[[str], None] = lambda message: None,
):
    """Writes one line per line read: the response, or several separated by tabs. A blank line gives an empty one.

    Lines are answered `batch_size` at a time and written in their order. What is wrong with one costs no other: bytes
    that are no text are replaced by U+FFFD, lines that are too long are cut, and a line without tokens, or too large
    for the memory, gives an empty one. A line of JSON that is a list of messages, or an object with such a list under
    `messages`, is a conversation.

    Args:
        model: an encoder-decoder in evaluation mode.
        tokenizer: the model's.
        settings: how responses are generated.
        lines: a query each; commands of a session are queries here. Bytes that could not be decoded stand in them as
            surrogates.
        output: where responses are written.
        batch_size: lines at a time.
        report: is told what was replaced, cut or left empty, a sentence with the number of the line.

    Raises:
        ValueError: for UTF-16, which was read as something else.
    """
    lines, number = iter(lines), 0
    while batch := list(islice(lines, batch_size)):
        if number == 0:
            batch[0] = _without_mark(batch[0])
        queries = {}
        for row, line in enumerate(batch):
            query = without_surrogates(line).strip()
            if query != line.strip():
                report(f"Line {number + row + 1} holds bytes or surrogates that are no text; U+FFFD replaces them.")
            if is_blank(query):
                continue
            try:
                queries[row] = query_text(model, tokenizer, _as_messages(query) or query)
            except ValueError as error:
                report(f"Line {number + row + 1} cannot be answered: {error}; its answer is empty.")
        lengths = dict(zip(queries, token_counts(tokenizer)(queries.values()), strict=True))
        longest = longest_query(model, tokenizer)
        for row, length in lengths.items():
            if length == 0:
                report(f"Line {number + row + 1} has no tokens for this model; its answer is empty.")
            elif length > longest:
                report(f"Line {number + row + 1} has {length:,} tokens; the first {longest:,} are read.")
        short = [row for row, length in lengths.items() if 0 < length <= LONG_QUERY]
        groups = [short] if short else []
        groups += [[row] for row, length in lengths.items() if length > LONG_QUERY]
        answers: dict[int, list[Response]] = {}
        while groups:
            rows = groups.pop(0)
            try:
                responses = respond(model, tokenizer, [queries[row] for row in rows], settings)
            except RuntimeError as error:
                if not _is_out_of_memory(error):
                    raise
                if len(rows) > 1:
                    middle = len(rows) // 2
                    groups[:0] = [rows[:middle], rows[middle:]]
                else:
                    report(f"Line {number + rows[0] + 1} needs more memory than there is; its answer is empty.")
            else:
                answers.update(zip(rows, responses, strict=True))
        for row in range(len(batch)):
            text = "\t".join(response.text for response in answers.get(row, ()))
            try:
                output.write(f"{text}\n")
            except UnicodeEncodeError as error:
                report(
                    f"The answer to line {number + row + 1} has characters that {error.encoding} does not; `?` stands "
                    "in their place. PYTHONIOENCODING=utf-8 in the environment writes all."
                )
                output.write(text.encode(error.encoding, "replace").decode(error.encoding) + "\n")
        output.flush()
        number += len(batch)


def _as_messages(line: str) -> list[Mapping[str, Any]] | None:
    """The messages that a line holds as JSON; `None` for any other line."""
    if not line.startswith(("[", "{")):
        return None
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    value = value.get("messages") if isinstance(value, Mapping) else value
    return value if is_conversation(value) else None


def _without_mark(line: str) -> str:
    """The first line without a byte order mark.

    Raises:
        ValueError: for UTF-16, which was read as something else.
    """
    if line.startswith(("\udcff\udcfe", "\udcfe\udcff", "\ufffe", "ÿþ", "þÿ")) or line.count("\0") > len(line) // 3:
        raise ValueError(
            f"The first line, {line!r:.40}, looks like UTF-16, and lines of UTF-8 are read. Convert them before, for "
            "example by `iconv -f UTF-16 -t UTF-8`."
        )
    return line.removeprefix("\ufeff")


def _is_out_of_memory(error: Exception) -> bool:
    from accelerate.utils.memory import should_reduce_batch_size

    return should_reduce_batch_size(error)


class Chat:
    """A session in the terminal.

    Attributes:
        conversation: the messages since the last new beginning, as many as the model remembers.

    Args:
        model: an encoder-decoder in evaluation mode.
        tokenizer: the model's.
        settings: how responses are generated, until the user changes it.
        console: shows responses and messages.
        read: returns the next line of the user and raises `EOFError` after the last.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        settings: ChatSettings,
        console: Console | None = None,
        read: Callable[[], str] | None = None,
    ):
        self.model, self.tokenizer, self.settings = model, tokenizer, settings
        self.console = Console() if console is None else console
        self.read = read or (lambda: self.console.input("[bold cyan]query>[/] "))
        self.history = history_of(tokenizer)
        self.conversation: list[dict[str, str]] = []

    def run(self):
        """Answers until the user leaves."""
        name = self.model.config.name_or_path or type(self.model).__name__
        self._show(f"{name}: {self.settings.describe()}.", "bold")
        self._show(f"{self._memory()} /help lists the commands.", "dim")
        while True:
            try:
                line = self.read().strip()
            except (EOFError, KeyboardInterrupt):
                self.console.print()
                return
            except UnicodeDecodeError as error:
                self._show(f"This line holds bytes that are no {error.encoding}. Type it again.", "red")
                continue
            if line in ("/quit", "/exit"):
                return
            try:
                if line.startswith("/"):
                    self._command(line)
                elif line:
                    self._answer(line)
            except KeyboardInterrupt:
                self._show("(stopped)", "dim")
            except ValueError as error:
                self._show(str(error), "red")
            except RuntimeError as error:
                if not _is_out_of_memory(error):
                    raise
                self._show("Not enough memory for this answer. Lower num_beams or num_return_sequences.", "red")

    def _memory(self) -> str:
        turns = self.history.turns
        if not turns:
            return "Each query is answered on its own, without memory of earlier ones."
        remembered = "the turn" if turns == 1 else f"the {turns} turns"
        return f"Each query is answered with {remembered} before it in mind; /new forgets them."

    def _command(self, line: str):
        name, *rest = line.split()
        if name == "/help":
            self._show(f"{HELP} {self._memory()}")
        elif name == "/new":
            self.conversation.clear()
            self._show("A new conversation." if self.history.turns else self._memory(), "dim")
        elif name == "/set" and (len(rest) == 2 or rest[:1] == ["decoding"] and len(rest) > 1):
            self._adopt(self.settings.changed(rest[0], " ".join(rest[1:])))
        elif name == "/set" and not rest:
            self._show(self.settings.describe())
        elif name == "/set":
            raise ValueError("Usage: /set NAME VALUE, for example /set temperature 0.7.")
        elif name == "/greedy":
            settings = dataclasses.replace(
                self.settings, do_sample=False, num_beams=1, num_return_sequences=1, decoding=None
            )
            self._adopt(settings)
        elif name == "/sample":
            self._adopt(dataclasses.replace(self.settings, do_sample=True, num_beams=1, decoding=None))
        else:
            raise ValueError(f"There is no command {name}. /help lists the commands.")

    def _adopt(self, settings: ChatSettings):
        if settings.seed is not None and settings.seed != self.settings.seed:
            set_seed(settings.seed)
        self.settings = settings
        self._show(settings.describe(), "dim")

    def _answer(self, query: str):
        longest = longest_query(self.model, self.tokenizer)
        length = token_counts(self.tokenizer)([without_surrogates(query)])[0]
        if length > longest:
            self._show(f"The query has {length:,} tokens; the first {longest:,} are read.", "dim")
        messages = [*self.conversation, {"role": USER, "content": query}]
        asked: Query = messages if self.history.turns else query
        responses = respond(self.model, self.tokenizer, [asked], self.settings)[0]
        self._remember(messages, responses[0].text)
        if len(responses) == 1:
            self._show(responses[0].text or "(an empty response)")
            return
        table = Table("log p / token", "response", box=None, header_style="dim")
        for response in responses:
            table.add_row(f"{response.score:.2f}", Text(response.text or "(an empty response)"))
        self.console.print(table)

    def _remember(self, messages: list[dict[str, str]], answer: str):
        if is_blank(answer):
            return  # nothing was said, so the next query follows the one before
        messages = [*messages, {"role": ASSISTANT, "content": answer}]
        self.conversation = messages[-self.history.turns :] if self.history.turns else []

    def _show(self, text: str, style: str = ""):
        self.console.print(Text(text, style=style))  # `Text`, for rich would read brackets in a response as markup
