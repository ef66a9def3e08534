"""Files as people have them: what is read is held against their lines, and what does not fit is told."""

import bz2
import gzip
import json
import lzma
import os
import warnings

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from hf_localgan.data import load_pairs
from hf_localgan.data.table_rows import TABLE_SETTINGS

STRAY = 'query\tresponse\n"Wait\tb1\na2\tb2\na3"\tb3\n'


def rows(pairs, split="train"):
    return [(row["query"], row["response"]) for row in pairs[split]]


def write(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def objects(*values):
    return "".join(json.dumps(value) + "\n" for value in values)


streamed = pytest.mark.parametrize("streaming", [False, True])


# Quotation marks


@streamed
def test_lines_that_a_stray_quotation_mark_joins_are_told_with_the_remedy(tmp_path, streaming):
    path = write(tmp_path, "train.tsv", STRAY)
    for _ in range(2):  # the second time from the cache
        with pytest.warns(UserWarning, match=r"1 row was read from 3 lines .* row 0 \(3 lines\): 'Wait.*quoting=3"):
            assert rows(load_pairs(path, streaming=streaming)) == [("Wait\tb1\na2\tb2\na3", "b3")]
    for quoting in (3, "literal"):
        assert rows(load_pairs(path, quoting=quoting, streaming=streaming)) == [
            ('"Wait', "b1"),
            ("a2", "b2"),
            ('a3"', "b3"),
        ]


def test_cells_of_several_lines_that_are_meant_are_no_warning(tmp_path):
    path = write(tmp_path, "train.csv", 'query,response\r\n"one\r\ntwo","say ""hi"""\r\nplain,x\r\n')
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert rows(load_pairs(path, quoting=0)) == [("one\r\ntwo", 'say "hi"'), ("plain", "x")]


@pytest.mark.parametrize(
    "content, told",
    [
        ('query,response\na,b\n"c,d\ne,f\n', "lines 3 to 4: a quotation mark is opened there and never closed"),
        ('query,response\n"Hi" he said,yo\n', "line 2: there is text after a closing quotation mark"),
        ('query,response\n"' + "x" * 140_000 + '",yo\n', "longer than 131,072 characters"),
    ],
)
@streamed
def test_quotation_marks_that_enclose_no_cell_are_an_error_with_the_remedy(tmp_path, content, told, streaming):
    path = write(tmp_path, "train.csv", content)
    with pytest.raises(ValueError, match=f"train.csv.*{told}.*quoting=3"):
        list(load_pairs(path, streaming=streaming)["train"])


# Cells and columns


@streamed
def test_a_row_with_more_cells_than_the_header_is_an_error_or_left_out(tmp_path, streaming):
    path = write(tmp_path, "train.tsv", "source\ttarget\nHi.\tSalut.\tCC-BY\nA\tB\n")
    with pytest.raises(ValueError, match=r"\(0\).*line 2 has 3 cells, the header names 2"):
        list(load_pairs(path, streaming=streaming)["train"])
    with pytest.warns(UserWarning, match="line 2 has 3 cells.*left out"):
        assert rows(load_pairs(path, streaming=streaming, on_bad="drop")) == [("A", "B")]


@streamed
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_the_header_of_a_joined_file_is_no_pair(tmp_path, streaming, mark):
    header, other = "query,response\n", f"{mark}query,response\n"
    path = write(tmp_path, "train.csv", f"{header}a,b\nquery,what is it\n{other}c,d\n")
    with pytest.raises(ValueError, match=r"\(2\).*line 4 holds the names of the columns"):
        list(load_pairs(path, streaming=streaming)["train"])
    with pytest.warns(UserWarning, match="left out"):
        kept = rows(load_pairs(path, on_bad="drop", streaming=streaming))
    assert kept == [("a", "b"), ("query", "what is it"), ("c", "d")]


@pytest.mark.parametrize(
    "header, told",
    [
        ("Query,Response", "'Query' from 'query' and 'Response' from 'response'"),
        ("query, response", "' response' from 'response'"),
        ("\ufeff\ufeffquery,response", r"'\\ufeffquery' from 'query'"),
    ],
)
def test_names_of_columns_that_look_alike_are_told(tmp_path, header, told):
    with pytest.raises(ValueError, match=f"Of the columns {told} differs in case, spaces"):
        load_pairs(write(tmp_path, "train.csv", f"{header}\na,b\n"))


def test_trailing_separators_shift_nothing(tmp_path):
    write(tmp_path, "train.csv", "query,response\na,b,\nc,d,,\n")
    write(tmp_path, "test.csv", "query,response,,\nx,y,,\n")
    pairs = load_pairs(tmp_path)
    assert rows(pairs) == [("a", "b"), ("c", "d")] and rows(pairs, "test") == [("x", "y")]


def test_a_row_with_too_few_cells_is_told(tmp_path):
    path = write(tmp_path, "train.csv", "id,query,response\n1,a,b\n2\n\n3,c,d\n")
    with pytest.raises(ValueError, match=r"\(1\).*line 3 has only 1 cells"):
        load_pairs(path)
    with pytest.warns(UserWarning):
        assert rows(load_pairs(path, on_bad="drop")) == [("a", "b"), ("c", "d")]


@pytest.mark.parametrize(
    "name, content",
    [
        ("train.csv", "query,response,response\na,b,c\n"),
        ("train.jsonl", '{"query": "a", "query": "b", "response": "c"}\n'),
        ("train.json", '[{"query": "b", "response": "c", "response": "d"}]'),
        ("train.jsonl", '{"query":"a","qu\\u0065ry":"b","response":"c"}\n'),
        ("train.jsonl", '{"query" : "a","query" : "b","response" : "c"}\n'),
        ("train.jsonl", '{"query":"a","query"\t:"z","response":"b","x":"y:"}\n'),
        ("train.jsonl", '{"query":"a:b","query":"a","response":"c"}\n'),
        ("train.jsonl", '{"query":"a","response":"c","x":{"query":1,"query":2}}\n'),
    ],
)
def test_a_name_that_stands_twice_loses_nothing(tmp_path, name, content):
    with pytest.raises(ValueError, match="several `response` columns|`(query|response)` stands twice"):
        load_pairs(write(tmp_path, name, content))


LOOKALIKES = ["2009-05-10", "10 May 2009", "12:30", "007", "1e5", "1.0", "true", "null", "NaN", "NA", "None", "-inf",
              "2009-05-10T10:00:00Z", " 5 ", "[]", "{}"]  # fmt: skip


@pytest.mark.parametrize("name", ["train.csv", "train.tsv", "train.jsonl", "train.json"])
@streamed
def test_text_that_looks_like_something_else_is_text(tmp_path, name, streaming):
    pairs = [(text, text[::-1]) for text in LOOKALIKES] + [(text, text) for text in LOOKALIKES[:5]]
    if "json" in name:
        content = [{"query": q, "response": r} for q, r in pairs]
        content = json.dumps(content) if name.endswith(".json") else objects(*content)
    else:
        mark = "," if name.endswith("csv") else "\t"
        content = "\n".join([f"query{mark}response", *(f"{q}{mark}{r}" for q, r in pairs)])
    assert rows(load_pairs(write(tmp_path, name, content), streaming=streaming)) == pairs


def test_texts_of_numbers_alone_in_every_row_are_text(tmp_path):
    assert rows(load_pairs(write(tmp_path, "train.csv", "query,response\n1,2\n3,4\n"))) == [("1", "2"), ("3", "4")]
    same = objects({"query": "2009-05-10", "response": "2010-05-10"})
    assert rows(load_pairs(write(tmp_path, "test.jsonl", same)), "test") == [("2009-05-10", "2010-05-10")]


@pytest.mark.parametrize("value", [5, True, {"a": 1}, 2.5])
def test_values_of_json_that_are_no_text_are_named(tmp_path, value):
    path = write(tmp_path, "train.jsonl", objects({"query": "a", "response": value}))
    with pytest.raises(ValueError, match='"train.jsonl", line 1: .* is no text'):
        load_pairs(path)
    with pytest.raises(ValueError, match="no pair left") as error, pytest.warns(UserWarning):
        load_pairs(path, on_bad="drop")
    assert "limits" not in str(error.value)  # there are none to widen


@pytest.mark.parametrize("name", ["train.json", "train.jsonl"])
def test_half_a_character_is_refused_in_every_form_of_json(tmp_path, name):
    values = [{"query": "a", "response": "x\ud800"}, {"query": "c", "responses": ["d"], "response": "d"}]
    path = write(tmp_path, name, json.dumps(values) if name.endswith(".json") else objects(*values))
    with pytest.raises(ValueError, match="lone surrogate|no text"):
        load_pairs(path, columns={"query": "query", "response": "response"})


@pytest.mark.parametrize(
    "written",
    [
        "['hello', 'hey']", '["hello", "hey"]', "['hello' 'hey']", " ['one'] ",
        """["it's", 'hey']""", "['hello'\n 'hey']", "array(['hello', 'hey'], dtype=object)",
    ],
)  # fmt: skip
@pytest.mark.parametrize("source", ["csv", "jsonl", "memory"])
def test_a_list_written_as_text_is_no_response(tmp_path, written, source):
    row = {"query": "a", "responses": written}
    if source == "csv":
        data = write(tmp_path, "train.csv", 'query,responses\na,"' + written.replace('"', '""') + '"\n')
    else:
        data = Dataset.from_list([row]) if source == "memory" else write(tmp_path, "train.jsonl", objects(row))
    with pytest.raises(ValueError, match="lists written as text, such as"):
        load_pairs(data)


def test_one_response_in_brackets_is_a_text():
    data = Dataset.from_dict({"query": ["a", "b"], "response": ["['x']", "y"]})
    assert load_pairs(data)["train"]["response"][:] == ["['x']", "y"]
    with pytest.raises(ValueError, match="lists written as text"):
        load_pairs(Dataset.from_dict({"query": ["a", "b"], "response": ["['x']", "['y', 'z']"]}))


@pytest.mark.parametrize("side", ["query", "response"])
@pytest.mark.parametrize("written", ["['x', 'y']", "('x', 'y')", "{'text': 'x'}", "[1, 2]", "[]", "['x', 5]", "[None]"])
def test_texts_that_are_all_lists_are_refused_and_one_may_look_so(side, written):
    texts = {"query": ["a", "b"], "response": ["c", "d"], side: [written, "x"]}
    assert load_pairs(Dataset.from_dict(texts))["train"][side][:] == [written, "x"]
    with pytest.raises(ValueError, match="(queries|responses) are lists written as text"):
        load_pairs(Dataset.from_dict({**texts, side: [written, written]}))


# Fields inside lists


@pytest.mark.parametrize("source", ["jsonl", "parquet", "memory"])
@streamed
def test_fields_of_lists_of_objects(tmp_path, source, streaming):
    row = {
        "messages": [{"content": "a"}, {"content": "b"}],
        "answers": [{"text": {"raw": "x"}}, {"text": {"raw": "y"}}],
    }
    data = Dataset.from_list([row, row])
    if source == "jsonl":
        data = write(tmp_path, "train.jsonl", objects(row, row))
    elif source == "parquet":
        data.to_parquet(tmp_path / "train.parquet")
        data = tmp_path / "train.parquet"
    with pytest.raises(ValueError, match="a query is one text|is no text"):
        list(load_pairs(data, columns={"query": "messages.content", "response": "answers.text.raw"},
                        streaming=streaming)["train"])  # fmt: skip
    with pytest.raises(ValueError, match="no text|`answers.none`"):
        list(load_pairs(data, columns={"query": "answers.none", "response": "answers.text.raw"},
                        streaming=streaming)["train"])  # fmt: skip


def test_responses_inside_objects_are_several_responses():
    data = Dataset.from_list([{"q": "a", "r": [{"t": "x"}, {"t": "y"}]}, {"q": "b", "r": [{"t": "z"}]}])
    pairs = load_pairs(data, columns={"query": "q", "response": "r.t"})
    assert rows(pairs) == [("a", "x"), ("a", "y"), ("b", "z")]
    with pytest.raises(ValueError, match="There is no text at `r.z`"):
        load_pairs(data, columns={"query": "q", "response": "r.z"})


@streamed
def test_a_path_that_leads_nowhere_says_what_is_there(tmp_path, streaming):
    row = {"translation": {"en": "a", "fr": "b"}, "turns": [{"text": "a"}]}
    path = write(tmp_path, "train.jsonl", objects(row))
    for name in ("translation.de", "turns.0.text"):
        with pytest.raises(ValueError, match=f"no text at `{name}` in .*train.jsonl.*holds .*(en|text)"):
            load_pairs(path, columns={"source": "translation.en", "target": name}, streaming=streaming)
    write(tmp_path, "test.csv", "query,response\na,b\n")
    with pytest.raises(ValueError, match="no `query.x` column .*a cell of a table is text and has no fields"):
        load_pairs(tmp_path / "test.csv", columns={"query": "query.x", "response": "response"}, streaming=streaming)


# Folders and paths


def test_shards_with_a_hash_are_found_and_a_missing_one_is_an_error(tmp_path):
    for shard in (1, 0):
        name = f"train-{shard:05d}-of-00002-0a1b2c3d4e5f.jsonl"
        write(tmp_path, name, objects({"query": f"q{shard}", "response": "r"}))
    assert rows(load_pairs(tmp_path)) == [("q0", "r"), ("q1", "r")]
    os.remove(tmp_path / "train-00000-of-00002-0a1b2c3d4e5f.jsonl")
    with pytest.raises(ValueError, match="`train`.*2 shards.*missing: 0"):
        load_pairs(tmp_path)


@pytest.mark.parametrize("folder", ["a [1]", "b::c", "d{e,f}*?", "g%20h#i"])
@pytest.mark.parametrize("name", ["train.csv", "train.jsonl", "train.jsonl.gz", "train.parquet"])
def test_signs_in_paths_are_signs(tmp_path, folder, name):
    place = tmp_path / folder
    place.mkdir()
    if name.endswith("parquet"):
        pq.write_table(pa.table({"query": ["a"], "response": ["b"]}), place / name)
    else:
        content = "query,response\na,b\n" if name.endswith("csv") else objects({"query": "a", "response": "b"})
        write(place, name, gzip.compress(content.encode()) if name.endswith("gz") else content)
    for source in (place, place / name, {"train": place / name}, {"train": [str(place / name)]}):
        assert rows(load_pairs(source)) == [("a", "b")]
    assert rows(load_pairs(place, streaming=True)) == [("a", "b")]


def test_a_pattern_that_fits_files_and_one_that_fits_none(tmp_path):
    for part in (2, 1):
        write(tmp_path, f"part-{part}.csv", f"query,response\nq{part},r\n")
    assert rows(load_pairs({"train": tmp_path / "part-*.csv"})) == [("q1", "r"), ("q2", "r")]
    with pytest.raises(ValueError, match=r"other-\*.csv.* does not exist"):
        load_pairs({"train": tmp_path / "other-*.csv"})


def test_folders_of_one_configuration_each(tmp_path):
    for name in ("de", "en"):
        write(tmp_path, f"{name}/train.csv", f"query,response\n{name},x\n")
    with pytest.raises(ValueError, match=r"several configurations: de, en. Say which by name=\"de\""):
        load_pairs(tmp_path)
    assert rows(load_pairs(tmp_path, "en")) == [("en", "x")]
    with pytest.raises(ValueError, match=r"no configuration, .*`fr` \(found: de, en\)"):
        load_pairs(tmp_path, "fr")


def test_folders_and_files_named_for_splits_in_other_ways(tmp_path):
    write(tmp_path, "a/train/0000.csv", "query,response\na,b\n")
    write(tmp_path, "a/train/0001.csv", "query,response\nc,d\n")
    write(tmp_path, "a/test/0000.csv", "query,response\ne,f\n")
    pairs = load_pairs(tmp_path / "a")
    assert rows(pairs) == [("a", "b"), ("c", "d")] and rows(pairs, "test") == [("e", "f")]
    write(tmp_path, "b/Training.CSV", "query,response\na,b\n")
    write(tmp_path, "b/testing.csv", "query,response\nc,d\n")
    assert list(load_pairs(tmp_path / "b")) == ["train", "test"]


@pytest.mark.parametrize("source", ["", {}, {"train": None}, {"train": [5]}])
def test_sources_that_name_nothing_are_refused(source):
    with pytest.raises(ValueError, match="`source` must name|value of split `train` must be a file"):
        load_pairs(source)


@pytest.mark.parametrize(
    "setting",
    [
        {"columns": ["query", "response"]}, {"columns": "query"}, {"splits": []}, {"splits": 5},
        {"limits": {"min_query": 1}}, {"num_proc": 0}, {"encoding": 5}, {"encoding_errors": "bogus"},
    ],
    ids=str,
)  # fmt: skip
def test_settings_of_a_wrong_type_are_named(tmp_path, setting):
    with pytest.raises(ValueError, match=f"`{next(iter(setting))}`"):
        load_pairs(write(tmp_path, "train.csv", "query,response\na,b\n"), **setting)


@pytest.mark.parametrize("setting", [{"name": "x"}, {"revision": "main"}, {"quoting": 3}])
def test_settings_that_a_source_cannot_take_are_refused(setting):
    with pytest.raises(ValueError, match=f"`?{next(iter(setting))}`?"):
        load_pairs(Dataset.from_list([{"query": "a", "response": "b"}]), **setting)


def test_parquet_of_pandas_and_shards_of_different_string_types(tmp_path):
    repeated = pa.array(["yes", "no"]).dictionary_encode()
    table = pa.table({"query": ["a", "b"], "response": repeated})
    pq.write_table(table, tmp_path / "train-00000-of-00002.parquet")
    wide = pa.table({"query": pa.array(["c"], pa.large_string()), "response": pa.array(["d"], pa.large_string())})
    pq.write_table(wide, tmp_path / "train-00001-of-00002.parquet")
    for streaming in (False, True):
        assert rows(load_pairs(tmp_path, streaming=streaming)) == [("a", "yes"), ("b", "no"), ("c", "d")]


# Encodings, packing and other settings


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1", "cp1251"])
def test_encodings(tmp_path, encoding):
    text = "да" if encoding == "cp1251" else "café"
    write(tmp_path, "train.csv", f"query,response\n{text},b\n".encode(encoding))
    if encoding != "utf-8-sig":
        with pytest.raises(ValueError, match="encoding="):
            load_pairs(tmp_path)
    assert rows(load_pairs(tmp_path, encoding="utf-8" if encoding == "utf-8-sig" else encoding)) == [(text, "b")]
    with pytest.raises(ValueError, match="`encoding`.*not known"):
        load_pairs(tmp_path, encoding="no-such")


@pytest.mark.parametrize("ending, pack", [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)])
def test_packed_files_and_what_is_left_of_them(tmp_path, ending, pack):
    content = objects(*({"query": f"q{n}", "response": "r"} for n in range(3_000)))
    path = write(tmp_path, f"train.jsonl.{ending}", pack(content.encode()))
    assert len(load_pairs(path)["train"]) == 3_000
    path.write_bytes(path.read_bytes()[:-20])
    for streaming in (False, True):
        with pytest.raises(ValueError, match="cannot be (unpacked|read)"):
            list(load_pairs(path, streaming=streaming)["train"])


@pytest.mark.parametrize(
    "name, content, told",
    [
        ("train.jsonl", gzip.compress(b"{}", mtime=0), "packed by gzip; name it .gz"),
        ("train.csv", b"PK\x03\x04\x14\x00\x00", "zip archive or a spreadsheet"),
        ("train.csv", b"PAR1\x15\x04", "it is parquet"),
        ("train.csv", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "pointer of Git LFS"),
        ("train.parquet", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "pointer of Git LFS"),
        ("train.csv", "query,response\na,b\n".encode("utf-16-le"), 'Pass encoding="utf-16-le"'),
        ("train.jsonl", objects({"query": "a"}).encode("utf-16-be"), 'Pass encoding="utf-16-be"'),
    ],
)
def test_what_a_file_is_instead_of_text_is_told(tmp_path, name, content, told):
    with pytest.raises(ValueError, match=f"{name}.*{told}"):
        load_pairs(write(tmp_path, name, content))


def test_frames_of_zstd_are_read_to_their_end_and_a_cut_one_is_an_error(tmp_path):
    zstandard = pytest.importorskip("zstandard")
    text = "".join(f'{{"query": "{os.urandom(40).hex()}", "response": "r{n}"}}\n' for n in range(4_000)).encode()
    frame = zstandard.ZstdCompressor().compress(text)
    path = write(tmp_path, "train.jsonl.zst", frame + frame)
    assert len(load_pairs(path)["train"]) == 8_000
    for end in (len(frame) // 2, len(frame) - 1, 2 * len(frame) - 200):
        path.write_bytes((frame + frame)[:end])
        with pytest.raises(ValueError, match="cannot be unpacked: its last frame has no end"):
            load_pairs(path)


def test_parquet_files_that_are_whole_are_not_called_damaged(tmp_path):
    pq.write_table(pa.table({"query": ["a"], "response": ["b"]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"query": ["a"], "response": [["b"]]}), tmp_path / "b.parquet")
    with pytest.raises(ValueError, match="same types; .*b.parquet has `query` string, `response` list") as error:
        load_pairs({"train": [tmp_path / "a.parquet", tmp_path / "b.parquet"]})
    assert "damaged" not in str(error.value)


def test_a_file_without_a_header_and_with_another_separator(tmp_path):
    path = write(tmp_path, "train.csv", "a;b\nc;d\n")
    with pytest.raises(ValueError, match='found: `a;b`.*sep=";"'):
        load_pairs(path)
    assert rows(load_pairs(path, sep=";", names=["query", "response"])) == [("a", "b"), ("c", "d")]


@pytest.mark.parametrize(
    "wrong",
    [
        {"sep": "||"},
        {"quoting": "some"},
        {"quoting": 9},
        {"names": "query"},
        {"nrows": 3},
        {"sep": ";", "delimiter": ","},
    ],
)
def test_settings_of_tables_that_are_wrong_are_refused(tmp_path, wrong):
    path = write(tmp_path, "train.csv", "query,response\na,b\n")
    with pytest.raises(ValueError, match=f"`{next(iter(wrong))}`"):
        load_pairs(path, **wrong)
    assert {*wrong} <= {*TABLE_SETTINGS, "nrows"}


@pytest.mark.parametrize(
    "content, told",
    [
        ('{"query": "a", "response": "b"}\n{"query": "c", "resp', "line 2"),
        ('{"query": "a"}\n[1]\n', "line 2: each row must be an object"),
        ('{"query": ' + "[" * 100_000, "line 1: too many brackets"),
        ('{"query": ' + "9" * 5_000 + "}", "line 1"),
    ],
)
def test_broken_lines_of_json_are_named(tmp_path, content, told):
    with pytest.raises(ValueError, match=told):
        load_pairs(write(tmp_path, "train.jsonl", content))


def test_forms_of_json(tmp_path):
    row, other = {"query": "a", "response": "b"}, {"query": "c", "response": "d"}
    forms = {
        "lines": objects(row, other),
        "list": json.dumps([row, other], indent=1),
        "indented": json.dumps(row, indent=2) + "\n" + json.dumps(other, indent=2),
        "blank": "\n\n" + json.dumps(row) + "\n\n" + json.dumps(other),
    }
    for name, content in forms.items():
        assert rows(load_pairs(write(tmp_path, f"{name}/train.json", content))) == [("a", "b"), ("c", "d")]
    inside = write(tmp_path, "train.json", json.dumps({"all": {"data": [row, other]}}))
    assert rows(load_pairs(inside, field="all.data")) == [("a", "b"), ("c", "d")]
    with pytest.raises(ValueError, match=r"no field `none` \(found: `all`\)"):
        load_pairs(inside, field="none")


def test_columns_that_only_later_rows_have_are_found(tmp_path):
    early = [{"query": f"q{n}", "note": "x"} for n in range(1_500)]
    path = write(tmp_path, "train.jsonl", objects(*early, {"query": "z", "response": "r"}))
    with pytest.warns(UserWarning, match="1,500 rows have a response"):
        assert rows(load_pairs(path, on_bad="drop")) == [("z", "r")]


def test_a_file_that_changed_is_read_anew(tmp_path):
    path = write(tmp_path, "train.csv", "query,response\na,b\n")
    assert rows(load_pairs(path)) == [("a", "b")]
    write(tmp_path, "train.csv", "query,response\na,longer\n")
    assert rows(load_pairs(path)) == [("a", "longer")]


@streamed
def test_a_damaged_parquet_file_is_an_error_of_its_name(tmp_path, streaming):
    path = tmp_path / "train.parquet"
    Dataset.from_dict({"query": ["a" * 50] * 500, "response": [str(n) for n in range(500)]}).to_parquet(path)
    content = path.read_bytes()
    path.write_bytes(content[:20] + b"\xff" * 200 + content[220:])
    with pytest.raises(ValueError, match="train.parquet cannot be read"):
        list(load_pairs(path, streaming=streaming)["train"])
