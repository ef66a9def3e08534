"""Random damage to data files: each ends in the right pairs or one clear message, never in a silent loss.

What is right is told by the damaged bytes themselves, read by other means: every line of JSON must be an object, and a
table of plain cells must have two on each line.
"""

import gzip
import io
import json
import tempfile
import warnings
import zlib
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hf_localgan.data import load_pairs
from hf_localgan.text import is_blank

SHORT, LONG = 20, 1_000
QUIET = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]
# Letters of several scripts, what tables and JSON are written with, ends of lines and what is not seen.
LETTERS = st.text(st.sampled_from("abé你न्🙂\u0301\u200b\u2028 0-:'\"\\[]{},;\t\r\n"), max_size=12)
PLAIN = st.text(st.sampled_from("abé你🙂 '.!?0"), min_size=1, max_size=8).filter(lambda text: not is_blank(text))
WHOLE = LETTERS.filter(lambda text: not is_blank(text) and not (text.lstrip().startswith(("[", "{"))))
FORMS = ["jsonl", "json", "csv", "tsv", "parquet", "jsonl.gz"]


@st.composite
def damage(draw, content: bytes) -> bytes:
    """Bytes cut off, flipped, taken out, put in, repeated or swapped, once to three times."""
    for _ in range(draw(st.integers(1, 3))):
        if not content:
            break
        start = draw(st.integers(0, len(content) - 1))
        end = min(len(content), start + draw(st.integers(1, 20)))
        way = draw(st.sampled_from(["cut", "flip", "take", "put", "repeat", "line"]))
        if way == "cut":
            content = content[:start]
        elif way == "flip":
            content = content[:start] + bytes([content[start] ^ draw(st.integers(1, 255))]) + content[start + 1 :]
        elif way == "take":
            content = content[:start] + content[end:]
        elif way == "put":
            content = content[:start] + draw(st.binary(min_size=1, max_size=4)) + content[start:]
        elif way == "repeat":
            content = content[:end] + content[start:end] + content[end:]
        else:
            content = (
                content[:start] + draw(st.sampled_from([b"\n", b'"', b"\t", b",", b"}", b"\x00"])) + content[start:]
            )
    return content


def written(form: str, pairs: list[tuple[str, str]], folder: Path) -> Path:
    """A file of the pairs, as programs write it."""
    import csv

    path = folder / f"train.{form}"
    rows = [{"query": query, "response": response} for query, response in pairs]
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    if form in ("csv", "tsv"):
        text = io.StringIO(newline="")
        writer = csv.writer(text, delimiter="\t" if form == "tsv" else ",")
        writer.writerows([("query", "response"), *pairs])
        content = text.getvalue()
    elif form == "json":
        content = json.dumps(rows, ensure_ascii=False)
    else:
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_bytes(gzip.compress(content.encode()) if form.endswith("gz") else content.encode())
    return path


def read(path: Path, streaming: bool, **options) -> tuple[list[tuple[str, str]] | None, str]:
    """The pairs, or `None` with the message; and the warnings. Whatever else is raised goes through."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            data = load_pairs(path, streaming=streaming, cache_dir=path.parent / "cache", **options)["train"]
            return [(row["query"], row["response"]) for row in data], " ".join(str(w.message) for w in told)
        except ValueError as error:
            message = str(error)
    assert len(message) > 20 and path.name in message or "`train`" in message, message
    return None, message


def named_once(pairs: list) -> dict:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name stands twice")
    return dict(pairs)


def truth(form: str, content: bytes) -> list | None:
    """The pairs that damaged bytes hold, `None` where they hold something else beside or instead.

    Of tables only what is plain can be told by other means: no quotation marks, one end of lines.
    """
    try:
        text = (gzip.decompress(content) if form.endswith("gz") else content).decode("utf-8").removeprefix("\ufeff")
        if form in ("csv", "tsv"):
            mark = "\t" if form == "tsv" else ","
            header, *lines = [line.split(mark) for line in text.replace("\r\n", "\n").split("\n") if line]
            ok = header == ["query", "response"] and all(len(line) == 2 and all(line) for line in lines)
            ok = ok and header not in lines  # as where files are joined
            rows = [dict(zip(header, line, strict=True)) for line in lines] if ok else None
        elif form == "json" or text.lstrip().startswith("["):
            rows = json.loads(text, object_pairs_hook=named_once)
            rows = [rows] if isinstance(rows, dict) else rows
        else:
            lines = [line for line in io.StringIO(text, newline="") if line.strip()]
            rows = [json.loads(line, object_pairs_hook=named_once) for line in lines]
        if not rows or not all(isinstance(row, dict) for row in rows):
            return None
        pairs = [(row["query"], row["response"]) for row in rows]
        bad = [cell for pair in pairs for cell in pair if not isinstance(cell, str) or is_blank(cell)]
        "".join(cell for pair in pairs for cell in pair).encode()
        return None if bad else pairs
    except (ValueError, KeyError, OSError, EOFError, TypeError, zlib.error):
        return None


def check_damage(form: str, pairs: list, data):
    with tempfile.TemporaryDirectory() as place:
        path = written(form, pairs, Path(place))
        content = data.draw(damage(path.read_bytes()))
        path.write_bytes(content)
        found, message = read(path, streaming=data.draw(st.booleans()))
        dropped, told = read(path, streaming=False, on_bad="drop")
        if form == "parquet":
            assert found is None or len(found) == len(pairs)  # its own checks; no row may be missing
            return
        expected = truth(form, content)
        plain = form not in ("csv", "tsv") or not {b'"'[0], b"\r\r"[0]} & set(content.replace(b"\r\n", b"\n"))
        if not plain:
            if found is not None:  # every line is a row, or it is told that lines were joined
                lines = [line for line in content.replace(b"\r", b"\n").split(b"\n") if line]
                assert len(found) == len(lines) - 1 or "quotation marks join" in message
            return
        if expected is not None:
            assert found == expected, (found, expected, message)
        elif found is not None:
            # nothing was lost: as many rows as there are lines, apart from empty cells too many at their ends
            mark = b"\t" if form == "tsv" else b","
            lines = [line.rstrip(mark) for line in content.replace(b"\r\n", b"\n").split(b"\n") if line]
            assert form in ("csv", "tsv") and len(found) == len(lines) - 1, (found, content)
        if dropped is not None and found is None:
            assert "left out" in told


def examples(count: int):
    return settings(
        max_examples=count, deadline=None, database=None, derandomize=count == SHORT, suppress_health_check=QUIET
    )


@pytest.fixture(autouse=True)
def no_bars():
    datasets.disable_progress_bars()


@pytest.mark.parametrize("form", FORMS)
def test_damaged_files_end_in_the_right_pairs_or_a_message(form):
    @examples(SHORT)
    @given(st.lists(st.tuples(PLAIN, PLAIN), min_size=1, max_size=6), st.data())
    def damaged(pairs, data):
        check_damage(form, pairs, data)

    damaged()


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_a_thousand_damaged_files_end_in_the_right_pairs_or_a_message(form):
    @examples(LONG)
    @given(st.lists(st.tuples(PLAIN, PLAIN), min_size=1, max_size=6), st.data())
    def damaged(pairs, data):
        check_damage(form, pairs, data)

    damaged()


def check_round_trip(form: str, pairs: list, streaming: bool):
    with tempfile.TemporaryDirectory() as place:
        found, message = read(written(form, pairs, Path(place)), streaming, **({"quoting": 0} if "sv" in form else {}))
        assert found == pairs, message


@pytest.mark.parametrize("form", FORMS)
def test_what_programs_write_is_read_as_it_was(form):
    @examples(SHORT)
    @given(st.lists(st.tuples(WHOLE, WHOLE), min_size=1, max_size=6), st.booleans())
    def whole(pairs, streaming):
        check_round_trip(form, pairs, streaming)

    whole()


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_a_thousand_files_of_programs_are_read_as_they_were(form):
    @examples(LONG)
    @given(st.lists(st.tuples(WHOLE, WHOLE), min_size=1, max_size=6), st.booleans())
    def whole(pairs, streaming):
        check_round_trip(form, pairs, streaming)

    whole()
