"""What a user gives a trainer: models by name, plain arguments, text, adapters, and no collator."""

import inspect
from types import SimpleNamespace

import datasets
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import DataCollatorForSeq2Seq, Seq2SeqTrainingArguments, TrainingArguments, pipeline

from hf_localgan.data import load_pairs
from hf_localgan.trainers import (
    AdverRegsTrainer,
    AimTrainer,
    DaimTrainer,
    DbmTrainer,
    ExpectedRewardTrainer,
    GanAelTrainer,
    LocalGanConfig,
    LocalGanTrainer,
    MatchingConfig,
    MatchingTrainer,
    MleConfig,
    MleTrainer,
    RamlConfig,
    RamlTrainer,
    SpeechMleTrainer,
)
from hf_localgan.trainers.base.given import PairPadder, settle_args, settle_rows

GENERATORS = (
    MleTrainer, RamlTrainer, ExpectedRewardTrainer, LocalGanTrainer, GanAelTrainer, AdverRegsTrainer, AimTrainer,
    DaimTrainer, SpeechMleTrainer,
)  # fmt: skip
TEXT = [
    {"query": "how are you ?", "response": "i am fine ."},
    {"query": "what is your name ?", "response": "my name is hello !"},
] * 4
QUIET = {"use_cpu": True, "max_steps": 2, "save_strategy": "no", "disable_tqdm": True, "learning_rate": 0.01}


@pytest.fixture
def folder(tiny_generator, tiny_tokenizer, tmp_path):
    """A saved generator with its tokenizer."""
    tiny_generator().save_pretrained(tmp_path / "model")
    tiny_tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def config(tmp_path, cls=MleConfig, **fields):
    return cls(str(tmp_path / "run"), **{**QUIET, **fields})


def moved(model, start) -> bool:
    return any(not torch.equal(value, start[name]) for name, value in model.state_dict().items())


# ---- all together ----


def test_a_name_text_and_nothing_else_train_as_what_is_made_by_hand(folder, tmp_path, tiny_tokenizer, tiny_generator):
    by_name = MleTrainer(str(folder), config(tmp_path), train_dataset=TEXT)
    by_name.train()
    rows = [
        {**tiny_tokenizer(row["query"]), "labels": tiny_tokenizer(text_target=row["response"]).input_ids}
        for row in TEXT
    ]
    by_hand = MleTrainer(
        tiny_generator(), config(tmp_path), train_dataset=rows, data_collator=DataCollatorForSeq2Seq(tiny_tokenizer),
        processing_class=tiny_tokenizer,
    )  # fmt: skip
    by_hand.train()
    for name, value in by_hand.model.state_dict().items():
        torch.testing.assert_close(by_name.model.state_dict()[name], value, rtol=0, atol=0)
    by_name.save_model()
    assert (tmp_path / "run" / "tokenizer.json").is_file()


def test_raml_takes_all_of_them_at_once(folder, tmp_path):
    plain = Seq2SeqTrainingArguments(str(tmp_path / "run"), **QUIET, logging_steps=1)
    adapters = LoraConfig(r=2, target_modules=["readout"])
    trainer = RamlTrainer(folder, plain, train_dataset=datasets.Dataset.from_list(TEXT), peft_config=adapters)
    assert isinstance(trainer.args, RamlConfig) and isinstance(trainer.model, PeftModel)
    assert trainer.model.peft_config["default"].task_type == "SEQ_2_SEQ_LM" and adapters.task_type is None
    trainer.train()
    assert "raml/edit_rate" in trainer.state.log_history[0]
    trainer.save_model()
    assert (tmp_path / "run" / "adapter_model.safetensors").is_file()


def test_a_model_remembers_the_turns_that_a_trainer_was_given(folder, tmp_path, tiny_tokenizer):
    roles = ("user", "assistant", "user", "assistant")
    texts = ("hello", "how are you ?", "fine thanks", "what is your name ?")
    talk = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]
    rows = datasets.Dataset.from_list([{"messages": talk}] * 4)
    pairs = load_pairs(rows, history_turns=2, turn_separator=" . ")
    trainer = MleTrainer(str(folder), config(tmp_path), train_dataset=pairs)
    joined = tiny_tokenizer("hello . how are you ? . fine thanks").input_ids
    assert [trainer.train_dataset[row]["input_ids"] for row in (0, 1)] == [tiny_tokenizer("hello").input_ids, joined]
    trainer.train()
    trainer.save_model()
    answer = pipeline("text2text-generation", model=str(tmp_path / "run"), device="cpu", max_new_tokens=5)
    assert answer(talk[:3]) == answer("hello . how are you ? . fine thanks") != answer("fine thanks")
    plain = MleTrainer(str(folder), config(tmp_path), train_dataset=rows)  # rows as they are: the last turn alone
    assert (
        plain.train_dataset[1]["input_ids"] == tiny_tokenizer("fine thanks").input_ids and len(plain.train_dataset) == 8
    )


@pytest.mark.parametrize("cls", GENERATORS)
def test_every_trainer_of_generators_has_the_arguments(cls):
    parameters = inspect.signature(cls).parameters
    assert {"peft_config", "model_init_kwargs"} <= set(parameters)
    assert "GivenRows" in str(parameters["train_dataset"].annotation) or "Pairs" in str(
        parameters["train_dataset"].annotation
    )


def test_two_players_take_a_name_and_text(folder, tmp_path, tiny_discriminator, token_energy):
    args = config(tmp_path, LocalGanConfig, discriminator_warmup_steps=0, max_soft_length=4, relaxation_top_k=8)
    pairs = load_pairs({"train": datasets.Dataset.from_list(TEXT)})
    trainer = LocalGanTrainer(
        folder, args, train_dataset=pairs, discriminator=tiny_discriminator(), energy=token_energy()
    )  # fmt: skip
    start = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    assert moved(trainer.model, start)


def test_scorers_by_their_names_take_text(tiny_discriminator, token_energy, tiny_tokenizer, tmp_path):
    for name, model, cls, args in (
        ("judge", tiny_discriminator(), MatchingTrainer, MatchingConfig(str(tmp_path / "run"), **QUIET)),
        ("energy", token_energy(), DbmTrainer, TrainingArguments(str(tmp_path / "run"), **QUIET)),
    ):
        model.save_pretrained(tmp_path / name)
        tiny_tokenizer.save_pretrained(tmp_path / name)
        trainer = cls(tmp_path / name, args, train_dataset=TEXT)
        start = {key: value.clone() for key, value in trainer.model.state_dict().items()}
        trainer.train()
        assert moved(trainer.model, start) and trainer.processing_class.get_vocab() == tiny_tokenizer.get_vocab()
        with pytest.raises(FileNotFoundError, match='There is no ".*typo"'):
            cls(str(tmp_path / "typo"), args, train_dataset=TEXT)


# ---- arguments ----


def test_plain_arguments_keep_what_was_given_and_leave_the_rest_to_the_trainer():
    plain = Seq2SeqTrainingArguments(
        "runs/x", learning_rate=0.125, eval_strategy="steps", eval_steps=7, save_strategy="steps", save_steps=7,
        load_best_model_at_end=True, use_cpu=True, warmup_steps=3, predict_with_generate=True, hub_token="hf_secret",
    )  # fmt: skip
    args = settle_args(LocalGanConfig, "LocalGanTrainer", plain)
    kept = ("output_dir", "learning_rate", "eval_steps", "warmup_steps", "predict_with_generate", "hub_token")
    assert [getattr(args, name) for name in kept] == [getattr(plain, name) for name in kept]
    assert args.eval_strategy == "steps" and args.metric_for_best_model == "eval_quality" and args.greater_is_better
    assert args.remove_unused_columns == LocalGanConfig("runs/x", use_cpu=True).remove_unused_columns
    assert settle_args(MleConfig, "MleTrainer", plain).metric_for_best_model == "eval_loss"
    matching = settle_args(MatchingConfig, "MatchingTrainer", TrainingArguments("runs/x", use_cpu=True))
    assert matching.per_device_train_batch_size == 64  # its own default, not the framework's
    with pytest.raises(ValueError, match="set `predict_with_generate`, which `MatchingTrainer` does not have"):
        settle_args(MatchingConfig, "MatchingTrainer", plain)
    assert settle_args(MleConfig, "MleTrainer", None).output_dir == "trainer_output"

    class Own(Seq2SeqTrainingArguments):
        pass

    with pytest.raises(ValueError, match="`args` must be a `MleConfig`, got Own"):
        settle_args(MleConfig, "MleTrainer", Own("unused"))


# ---- rows ----


def test_text_is_encoded_as_pairs_are(tiny_tokenizer):
    rows = settle_rows("train_dataset", TEXT, tiny_tokenizer, None)
    assert rows[0]["input_ids"] == tiny_tokenizer("how are you ?").input_ids
    assert rows[0]["labels"] == tiny_tokenizer(text_target="i am fine .").input_ids and len(rows) == len(TEXT)
    listed = [{"source": "hello", "target": "my"}]
    assert len(settle_rows("eval_dataset", {"a": listed, "b": rows}, tiny_tokenizer, None)["a"]) == 1
    talk = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "my"}]
    instruction = {"instruction": "hello", "input": "", "output": "my"}
    for row in ({"prompt": "hello", "completion": "my"}, instruction, {"messages": talk}):
        for data in ([row], datasets.Dataset.from_list([row]), datasets.Dataset.from_list([row]).to_iterable_dataset()):
            (encoded,) = settle_rows("train_dataset", data, tiny_tokenizer, None)
            assert encoded["input_ids"] == tiny_tokenizer("hello").input_ids
            assert encoded["labels"] == tiny_tokenizer(text_target="my").input_ids
    several = [{"query": "hello", "responses": ["hello", "thanks"]}]
    assert len(settle_rows("eval_dataset", several, tiny_tokenizer, DataCollatorForSeq2Seq(tiny_tokenizer))) == 2
    stream = datasets.Dataset.from_list(TEXT).to_iterable_dataset()
    assert next(iter(settle_rows("train_dataset", stream, tiny_tokenizer, None)))["labels"] == rows[0]["labels"]


def test_rows_that_need_no_encoding_are_left_alone(tiny_tokenizer, pairs):
    encoded, vectors = pairs(2), [{"query_features": [1.0], "response_features": [2.0]}]
    for rows in (encoded, vectors, [], None, [torch.ones(2)]):
        assert settle_rows("train_dataset", rows, tiny_tokenizer, None) is rows
    assert settle_rows("train_dataset", TEXT, tiny_tokenizer, lambda batch: batch) is TEXT  # it may read text itself


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            [{"post": "a", "reply": "b"}],
            r"neither token ids .*`post`, `reply`.*load_pairs\(data, columns",
        ),
        ([{"query": "hello", "response": ""}], "bad response|empty"),
        ([{"query": "hello " * 9, "response": "hello"}], r"longer than `max_source_length`=8.*on_long=.truncate"),
        (datasets.DatasetDict(test=datasets.Dataset.from_list(TEXT)), r"several splits \(test\).*data\[.test.\]"),
    ],
)
def test_rows_that_cannot_be_encoded(data, message, tiny_tokenizer):
    model = SimpleNamespace(config=SimpleNamespace(max_position_embeddings=8))
    with pytest.raises(ValueError, match=f"(?s){message}"):
        settle_rows("train_dataset", data, tiny_tokenizer, None, model)


def test_text_without_a_tokenizer_and_pairs_without_the_split(family, tmp_path):
    with pytest.raises(ValueError, match="`train_dataset` holds text, and no tokenizer.*`processing_class`"):
        MleTrainer(family("rnn_seq2seq"), config(tmp_path), train_dataset=TEXT)
    pairs = load_pairs({"test": datasets.Dataset.from_list(TEXT)})
    with pytest.raises(ValueError, match=r"without a split `train` \(found: test\).*pairs\[.test.\]"):
        settle_rows("train_dataset", pairs, None, None)


# ---- models and adapters ----


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        ("folder", {"revisoin": "x"}, "have `revisoin`; accepted are `revision`, `trust_remote_code`"),
        ("model", {"revision": "x"}, "are for a `model` that is given by its name, got RnnSeq2Seq"),
        (3, None, "`model` must be a model, a folder or an id on the Hub, got int"),
    ],
)
def test_models_that_cannot_be_loaded(model, settings, message, folder, tmp_path, tiny_generator):
    given = {"folder": folder, "model": tiny_generator()}.get(model, model)
    with pytest.raises(ValueError, match=message):
        MleTrainer(given, config(tmp_path), model_init_kwargs=settings)


def test_a_model_by_name_with_its_loaders_arguments(folder, tmp_path):
    trainer = MleTrainer(folder, config(tmp_path), model_init_kwargs={"dtype": "float64"})
    assert trainer.model.dtype == torch.float64 and trainer.processing_class is not None


def test_adapters_of_a_model_that_has_some_or_is_not_there(family, tmp_path):
    adapters = LoraConfig(task_type="SEQ_2_SEQ_LM", r=2, target_modules=["q"])
    model = get_peft_model(family("t5"), adapters)
    with pytest.raises(ValueError, match="`model` has adapters.*`model.merge_and_unload"):
        MleTrainer(model, config(tmp_path), peft_config=adapters)
    with pytest.raises(ValueError, match="adapters of a `model`, and none is given.*`model_init`"):
        MleTrainer(args=config(tmp_path), model_init=lambda: family("t5"), peft_config=adapters)


# ---- batches ----


def test_batches_without_a_tokenizer_are_those_with_one(pairs, tiny_tokenizer):
    rows = pairs(5)
    expected = DataCollatorForSeq2Seq(tiny_tokenizer)(rows)
    batch = PairPadder(tiny_tokenizer.pad_token_id)(rows)
    for name in ("input_ids", "attention_mask", "labels"):
        assert torch.equal(batch[name], torch.as_tensor(expected[name]))
    for row in rows:
        del row["labels"], row["attention_mask"]
    unlabelled = PairPadder(tiny_tokenizer.pad_token_id)(rows)
    assert torch.equal(unlabelled["attention_mask"], batch["attention_mask"]) and "labels" not in unlabelled


@pytest.mark.parametrize("with_tokenizer", [True, False])
def test_trainers_choose_a_collator(with_tokenizer, family, pairs, tmp_path, tiny_tokenizer, tiny_discriminator):
    tokenizer = tiny_tokenizer if with_tokenizer else None
    for cls, model, args in (
        (MleTrainer, family("t5"), config(tmp_path, sample_rows=0)),
        (MatchingTrainer, tiny_discriminator(), config(tmp_path, MatchingConfig)),
    ):
        trainer = cls(model, args, train_dataset=pairs(8), eval_dataset=pairs(4), processing_class=tokenizer)
        trainer.train()
        assert trainer.state.global_step == 2 and trainer.evaluate()["eval_loss"] > 0
