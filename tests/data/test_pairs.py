import gzip
import json
import os
from types import SimpleNamespace

import datasets
import pytest
from datasets import Dataset, DatasetDict, IterableDataset

from hf_localgan.data import LengthLimits, group_pairs, load_pairs, sources
from hf_localgan.data.smalltalk import smalltalk_files

ROWS = [{"query": "how are you", "responses": ["fine", "not bad"]}, {"query": "hello there", "responses": ["hi"]}]
FLAT = {"query": ["how are you", "how are you", "hello there"], "response": ["fine", "not bad", "hi"]}


def write_json_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def flat(**columns):
    return Dataset.from_dict(columns)


# Sources


@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "json", "csv", "tsv", "csv.gz", "jsonl.gz"])
def test_every_kind_of_file_gives_the_same_pairs(tmp_path, suffix):
    path = tmp_path / f"pairs.{suffix.removesuffix('.gz')}"
    data = flat(**FLAT)
    if suffix == "parquet":
        data.to_parquet(path)
    elif "json" in suffix:
        data.to_json(path, lines=True)
    else:
        data.to_csv(path, sep="\t" if suffix == "tsv" else ",", index=False)
    if suffix.endswith(".gz"):
        plain, path = path, path.with_name(path.name + ".gz")
        path.write_bytes(gzip.compress(plain.read_bytes()))
    pairs = load_pairs(path)
    assert list(pairs) == ["train"]
    assert pairs["train"][:] == FLAT


def test_a_folder_gives_its_splits_in_order_and_test_multi_stays_apart(tmp_path):
    for name in ("test_multi.jsonl", "test.jsonl", "dev.jsonl", "train.jsonl"):
        write_json_lines(tmp_path / name, [{"query": name, "response": "yes"}])
    (tmp_path / "README.md").write_text("about")
    pairs = load_pairs(tmp_path, on_shared="error")
    assert list(pairs) == ["train", "validation", "test", "test_multi"]
    assert pairs["test"]["query"][:] == ["test.jsonl"] and pairs["validation"]["query"][:] == ["dev.jsonl"]


def test_data_files_beside_the_splits_are_told(tmp_path):
    for name in ("train.jsonl", "eval.jsonl", "dataset_infos.json", "notes.txt"):
        write_json_lines(tmp_path / name, [{"query": name, "response": "yes"}])
    with pytest.warns(UserWarning, match="also holds eval.jsonl, left out: such a name says no split"):
        pairs = load_pairs(tmp_path)
    assert list(pairs) == ["train"]


def test_shards_of_one_split_are_joined_in_order(tmp_path):
    (tmp_path / "data").mkdir()
    for shard in (1, 0):
        flat(query=[f"q {shard}"], response=["r"]).to_parquet(tmp_path / "data" / f"train-0000{shard}-of-00002.parquet")
    assert load_pairs(str(tmp_path))["train"]["query"][:] == ["q 0", "q 1"]


def test_two_files_for_one_split_are_an_error(tmp_path):
    for name in ("train.jsonl", "train.csv"):
        (tmp_path / name).write_text("")
    with pytest.raises(ValueError, match=r"Several files .* `train`: train.csv, train.jsonl"):
        load_pairs(tmp_path)


def test_a_folder_without_splits_names_what_it_holds(tmp_path):
    (tmp_path / "notes.csv").write_text("query,response\na,b\n")
    with pytest.raises(ValueError, match=r"has no train, validation or test file \(found: notes.csv\)"):
        load_pairs(tmp_path)


def test_a_saved_dataset_dict_and_a_dict_of_files_load(tmp_path):
    DatasetDict(train=flat(**FLAT)).save_to_disk(tmp_path / "saved")
    assert load_pairs(tmp_path / "saved")["train"][:] == FLAT
    path = write_json_lines(tmp_path / "other-name.jsonl", ROWS)
    assert load_pairs({"train": path, "test": [path]}, on_shared="drop", splits=["test"])["test"][:] == FLAT


def test_a_single_file_named_for_a_split_is_that_split(tmp_path):
    assert list(load_pairs(write_json_lines(tmp_path / "test.jsonl", ROWS))) == ["test"]


def test_a_hub_id_goes_to_load_dataset_as_it_is(monkeypatch):
    calls = []

    def load_dataset(*args, **kwargs):
        calls.append((args, kwargs))
        return DatasetDict(train=flat(**FLAT), test=flat(query=["new"], response=["yes"]))

    monkeypatch.setattr(sources, "load_dataset", load_dataset)
    pairs = load_pairs("someone/chat", "small", revision="v2", token="t")
    assert calls == [(("someone/chat", "small"), {"revision": "v2", "streaming": False, "token": "t"})]
    assert list(pairs) == ["train", "test"] and pairs["train"][:] == FLAT


@pytest.mark.parametrize("source", ["missing.jsonl", "./missing", "/no/such/folder", 3])
def test_a_source_that_is_nowhere_is_an_error_before_the_hub_is_asked(source, monkeypatch):
    monkeypatch.setattr(sources, "load_dataset", lambda *a, **k: pytest.fail("asked the Hub"))
    with pytest.raises(ValueError, match="no file or folder|must be a name"):
        load_pairs(source)


def test_splits_are_chosen_and_renamed():
    source = DatasetDict(train=flat(**FLAT), test_2016=flat(query=["new"], response=["yes"]))
    assert list(load_pairs(source, splits={"test": "test_2016"})) == ["test"]
    with pytest.raises(ValueError, match=r"no split `dev` \(found: train, test_2016\)"):
        load_pairs(source, splits=["dev"])


def test_cells_that_pandas_takes_for_missing_are_text(tmp_path):
    (tmp_path / "train.csv").write_text("query,response\nwhat is left?,None\nwhere?,NA\n")
    assert load_pairs(tmp_path)["train"]["response"][:] == ["None", "NA"]


def test_the_shipped_corpus_is_read_by_name(tmp_path, monkeypatch):
    files = {split: write_json_lines(tmp_path / f"{split}.jsonl", ROWS) for split in smalltalk_files()}
    monkeypatch.setattr(sources, "smalltalk_files", lambda: files)
    assert load_pairs("smalltalk", splits=["train"])["train"][:] == FLAT


# Columns


@pytest.mark.parametrize(
    "rows, columns",
    [
        (ROWS, None),
        ([{"source": r["query"], "target": r["responses"]} for r in ROWS], None),
        (
            [{"post": r["query"], "reply": r["responses"], "id": 1} for r in ROWS],
            {"query": "post", "response": "reply"},
        ),
        ([{"pair": {"a": r["query"], "b": r["responses"]}} for r in ROWS], {"source": "pair.a", "target": "pair.b"}),
    ],
)
def test_several_responses_expand_in_order_whatever_the_columns_are_called(rows, columns):
    assert load_pairs(Dataset.from_list(rows), columns=columns)["train"][:] == FLAT


def test_a_missing_column_lists_what_was_found_and_how_to_map():
    with pytest.raises(
        ValueError, match=r"no `query` column \(found: `post`, `reply`\).*columns=\{\"query\": \"post\""
    ):
        load_pairs(flat(post=["a"], reply=["b"]))
    with pytest.raises(ValueError, match=r"no `answer` column \(found: `query`, `response`\)"):
        load_pairs(flat(query=["a"], response=["b"]), columns={"query": "query", "response": "answer"})
    with pytest.raises(ValueError, match="must map one query and one response"):
        load_pairs(flat(query=["a"], response=["b"]), columns={"query": "query"})
    with pytest.raises(ValueError, match=r"no `t.de` column \(found: `t.en`, `t.fr`\)"):
        load_pairs(Dataset.from_list([{"t": {"en": "a", "fr": "b"}}]), columns={"source": "t.en", "target": "t.de"})


# Grouping


def test_responses_of_equal_queries_are_grouped_across_rows_without_repeats():
    data = flat(query=["b", "a", "b", "b", "B"], response=["2", "1", "3", "2", "4"])
    grouped = load_pairs(data).grouped["train"]
    assert grouped[:] == {"query": ["b", "a", "B"], "responses": [["2", "3"], ["1"], ["4"]]}


def test_grouping_sees_only_the_rows_of_a_selection():
    assert group_pairs(flat(**FLAT).select([2, 0]))[:]["query"] == ["hello there", "how are you"]


# Limits


@pytest.mark.parametrize("unit, expected", [("words", [3, 1, 0, 2]), ("characters", [5, 3, 0, 2])])
def test_lengths_by_hand(unit, expected):
    import pyarrow as pa

    # "a bc  de" is 3 words and 5 characters; the ideographic space counts as a space
    texts = pa.array([" a bc  de", "你好吗", "  ", "é\u3000x"])
    assert LengthLimits(unit=unit).lengths(texts).to_pylist() == expected


def test_what_limits_remove_is_counted_by_split_and_first_reason():
    words = {n: " ".join("w" * n) for n in (3, 4, 30, 31)}
    train = flat(
        query=[words[3], words[31], words[4], words[30], words[4], words[3]],
        response=[words[4], words[4], words[3], words[31], words[30], words[31]],
    )
    pairs = load_pairs(DatasetDict(train=train, test=flat(query=["one two three go"], response=[words[4]])),
                       limits=LengthLimits.paper())  # fmt: skip
    # rows 0 and 5 fall to the short query, though the response of 5 is too long as well
    assert pairs.report.splits["train"].removed == {
        "query too short": 2, "query too long": 1, "response too short": 1, "response too long": 1,
    }  # fmt: skip
    assert pairs["train"][:] == {"query": [words[4]], "response": [words[30]]}
    assert (pairs.report.splits["train"].rows, pairs.report.splits["train"].pairs) == (6, 1)
    assert pairs.report.splits["test"].removed == {}
    assert "query too short" in str(pairs.report) and "4 to 30" in str(pairs.report)
    assert json.loads(json.dumps(pairs.report.as_dict()))["limits"]["max_query"] == 30


def test_limits_that_leave_nothing_say_which_took_what():
    with pytest.raises(
        ValueError, match=r"`train` has no pair left of 2 rows; taken out: 3 because of query too short"
    ):
        load_pairs(Dataset.from_list(ROWS), limits=LengthLimits(min_query=9))


@pytest.mark.parametrize(
    "wrong", [{"unit": "tokens"}, {"min_query": -1}, {"max_query": 2.5}, {"min_response": 5, "max_response": 4}]
)
def test_limits_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match="`unit`|`m.._"):
        LengthLimits(**wrong)


# Bad cells


def test_bad_cells_are_named_by_split_and_row():
    data = flat(query=["a", None, "c", "  "], response=["x", "y", "", "z"])
    with pytest.raises(ValueError, match=r"`train`: 2 rows have a query .* \(1, 3\) and 1 row has a response .* \(2\)"):
        load_pairs(data)
    with pytest.warns(UserWarning, match=r"\(1, 3\).*left out"):
        pairs = load_pairs(data, on_bad="drop")
    assert pairs["train"][:] == {"query": ["a"], "response": ["x"]}
    assert pairs.report.splits["train"].bad_rows == 3


def test_only_the_first_ten_bad_rows_are_named():
    with pytest.raises(ValueError, match=r"12 rows have a query .*\(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, \.\.\.\)"):
        load_pairs(flat(query=[""] * 12 + ["a"], response=["x"] * 13))


def test_a_row_of_many_bad_responses_is_one_row():
    data = Dataset.from_list([{"query": "a", "responses": ["", "", "x"]}, {"query": "b", "responses": []}, ROWS[0]])
    with pytest.warns(UserWarning, match=r"2 rows have a response .*\(0, 1\)"):
        pairs = load_pairs(data, on_bad="drop")
    assert pairs["train"]["response"][:] == ["x", "fine", "not bad"]


def test_cells_that_are_not_text_are_found_in_mixed_json(tmp_path):
    mixed = [{"query": "a", "response": 1}, {"query": "b", "response": "x"}, {"query": "c", "response": {"d": 1}}]
    path = write_json_lines(tmp_path / "train.jsonl", mixed)
    with pytest.raises(ValueError, match=r"2 rows have a response that is empty or not text \(0, 2\)"):
        load_pairs(path)
    lists = [{"query": "a", "responses": ["x", 1]}, {"query": "b", "responses": ["y"]}]
    path = write_json_lines(tmp_path / "test.jsonl", lists)
    with pytest.warns(UserWarning, match=r"\(0\)"):
        assert load_pairs(path, on_bad="drop")["test"]["response"][:] == ["x", "y"]


def test_a_column_of_numbers_is_not_text():
    with pytest.raises(ValueError, match=r"2 rows have a query .*`query` Value\('int64'\)"):
        load_pairs(flat(query=[1, 2], response=["a", "b"]))


@pytest.mark.parametrize("name, content", [("train.csv", "query,response\n"), ("train.jsonl", "")])
@pytest.mark.parametrize("streaming", [False, True])
def test_a_file_without_rows_is_an_error(tmp_path, name, content, streaming):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match="`train` has no rows"):
        load_pairs(tmp_path, streaming=streaming)


@pytest.mark.parametrize("name", ["train.jsonl", "train.parquet"])
def test_a_broken_file_is_named(tmp_path, name):
    (tmp_path / name).write_text('{"query": "a", "resp')
    with pytest.raises(ValueError, match=f"{name} cannot be read"):
        load_pairs(tmp_path)


# Shared queries


@pytest.fixture
def overlapping():
    train = flat(query=["Hi, there!", "ok", "?!", "STRASSE"], response=["a", "b", "c", "d"])
    test = flat(query=["new", "hi  THERE", "? !", "Straße"], response=["a", "b", "c", "d"])
    return DatasetDict(train=train, test=test)


def test_shared_queries_are_found_without_regard_to_case_spacing_and_punctuation(overlapping):
    with pytest.warns(
        UserWarning, match=r"3 queries of split `test` also stand in `train` \(rows of `test`: 1, 2, 3\)"
    ):
        pairs = load_pairs(overlapping)
    assert len(pairs["train"]) == 4
    (shared,) = pairs.report.shared
    assert (shared.first, shared.second, shared.queries, shared.rows) == ("train", "test", 3, [1, 2, 3])


def test_shared_queries_can_be_dropped_from_training_alone(overlapping, recwarn):
    pairs = load_pairs(overlapping, on_shared="drop")
    assert pairs["train"]["query"][:] == ["ok"] and len(pairs["test"]) == 4
    assert pairs.report.splits["train"].shared_dropped == 3
    assert not [w for w in recwarn if "also stand" in str(w.message)]


def test_shared_queries_can_be_an_error_and_are_judged_after_the_limits(overlapping):
    with pytest.raises(ValueError, match="3 queries of split `test`"):
        load_pairs(overlapping, on_shared="error")
    kept = load_pairs(overlapping, on_shared="error", limits=LengthLimits(max_query=1, min_query=1), splits=["train"])
    assert len(kept["train"]) == 3


def test_dropping_still_warns_of_what_two_evaluation_splits_share():
    same = flat(query=["same"], response=["x"])
    data = DatasetDict(train=flat(query=["a"], response=["b"]), validation=same, test=same)
    with pytest.warns(UserWarning, match="1 queries of split `test` also stand in `validation`"):
        load_pairs(data, on_shared="drop")


# Streams


def test_a_streamed_folder_gives_the_same_pairs_and_is_not_counted(tmp_path):
    write_json_lines(tmp_path / "train.jsonl", ROWS)
    pairs = load_pairs(tmp_path, streaming=True)
    assert isinstance(pairs["train"], IterableDataset)
    assert list(pairs["train"]) == list(flat(**FLAT))
    assert pairs.report.splits == {} and "nothing is counted" in str(pairs.report) and "streamed" in repr(pairs)


def test_a_generator_of_unknown_columns_streams():
    stream = IterableDataset.from_generator(lambda: ({**row, "extra": 1} for row in ROWS))
    assert list(load_pairs(stream, limits=LengthLimits(min_query=3))["train"]) == list(flat(**FLAT).select([0, 1]))


def test_a_stream_names_a_bad_row_when_it_meets_it():
    rows = [{"query": f"q {n}", "response": "" if n == 1500 else "r"} for n in range(1600)]
    pairs = load_pairs(Dataset.from_list(rows), streaming=True)
    with pytest.raises(ValueError, match=r"`train`: 1 row has a response .*\(1500\)"):
        list(pairs["train"])
    with pytest.warns(UserWarning, match=r"\(1500\)"):
        assert len(list(load_pairs(Dataset.from_list(rows), streaming=True, on_bad="drop")["train"])) == 1599


def test_streamed_pairs_refuse_to_be_grouped():
    with pytest.raises(ValueError, match="cannot be grouped"):
        load_pairs(Dataset.from_list(ROWS), streaming=True).grouped["train"]


def test_pairs_behave_as_a_mapping():
    pairs = load_pairs(Dataset.from_list(ROWS))
    assert "train" in pairs and "test" not in pairs and len(pairs) == len(pairs.grouped) == 1
    assert repr(pairs) == "Pairs(train: 3)"
    with pytest.raises(KeyError, match=r"no split `test` \(found: train\)"):
        pairs["test"]


def test_a_second_load_from_the_cache_reports_the_same(tmp_path):
    path = write_json_lines(tmp_path / "train.jsonl", ROWS)
    datasets.enable_caching()
    first, second = (load_pairs(path, limits=LengthLimits(min_query=3)).report for _ in range(2))
    assert first == second and first.splits["train"].removed == {"query too short": 1}


@pytest.mark.corpora
@pytest.mark.parametrize("name, pairs", [("subtitles_en", 218_740), ("dailydialog_pp", 32_760), ("weibo_lccc", 12_708)])
def test_real_corpora_load_whole(name, pairs):
    folder = os.environ.get("HF_LOCALGAN_DATA") or pytest.skip("HF_LOCALGAN_DATA is not set")
    loaded = load_pairs(os.path.join(folder, name), on_shared="error")
    assert len(loaded["train"]) == pairs
    assert sum(len(r) for r in loaded.grouped["test"]["responses"]) == len(loaded["test"])


def test_reading_is_not_reported_to_a_counter_on_the_network(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(
        "datasets.load.get_session", lambda: SimpleNamespace(head=lambda *args, **_: asked.append(args))
    )
    file = tmp_path / "train.jsonl"
    file.write_text('{"query": "hello", "response": "hi"}\n', encoding="utf-8")
    load_pairs(file)
    assert asked == [] and datasets.config.HF_UPDATE_DOWNLOAD_COUNTS
    datasets.load_dataset("json", data_files=str(file))  # this library would
    assert len(asked) == 1
