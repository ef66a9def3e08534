"""Every trainer called as people call trainers: all by name, plain arguments, adapters, quantization, any rows."""

from types import SimpleNamespace

import datasets
import pytest
import torch
from peft import LoraConfig, PeftModel
from transformers import AutoModelForSeq2SeqLM, BitsAndBytesConfig, Seq2SeqTrainingArguments

from hf_localgan.models.loading import load_generator
from hf_localgan.trainers import (
    AdverRegsTrainer,
    AimTrainer,
    DaimTrainer,
    DbmTrainer,
    ExpectedRewardConfig,
    ExpectedRewardTrainer,
    GanAelTrainer,
    LocalGanTrainer,
    MatchingTrainer,
    MleTrainer,
    RamlConfig,
    RamlTrainer,
    SpeechRamlTrainer,
)
from hf_localgan.trainers.base.formatting import format_rows

POSTS = [
    {"post": "how are you ?", "reply": "i am fine .", "row": 1},
    {"post": "what is your name ?", "reply": "my name is hello !", "row": 2},
] * 4
QUIET = {"use_cpu": True, "max_steps": 2, "save_strategy": "no", "disable_tqdm": True, "learning_rate": 0.01}
PARTS = {
    LocalGanTrainer: ("discriminator", "energy"),
    GanAelTrainer: ("discriminator",),
    AdverRegsTrainer: ("discriminator",),
    AimTrainer: ("cosine_discriminator", "backward"),
    DaimTrainer: ("cosine_discriminator", "backward", "backward_discriminator"),
}
GENERATORS = (MleTrainer, RamlTrainer, ExpectedRewardTrainer, *PARTS)
FOUR_BITS = BitsAndBytesConfig(load_in_4bit=True)


def posts_to_pairs(row):
    return {"query": row["post"], "response": row["reply"]}


@pytest.fixture
def saved(tmp_path, tiny_tokenizer, tiny_t5, tiny_generator, tiny_discriminator, token_energy):
    """Folders of a T5, a recurrent generator, and of what stands beside generators."""
    models = {
        "t5": tiny_t5(), "recurrent": tiny_generator(), "backward": tiny_t5(seed=1), "energy": token_energy(),
        "discriminator": tiny_discriminator(), "cosine_discriminator": tiny_discriminator(seed=1, head="cosine"),
        "backward_discriminator": tiny_discriminator(seed=2, head="cosine"),
    }  # fmt: skip
    for name, model in models.items():
        model.save_pretrained(tmp_path / name)
        tiny_tokenizer.save_pretrained(tmp_path / name)
    return tmp_path


def plain(folder, **fields):
    return Seq2SeqTrainingArguments(str(folder / "run"), **{**QUIET, **fields})


# ---- every trainer ----


@pytest.mark.parametrize("cls", GENERATORS)
def test_every_trainer_of_generators_trains_from_names_and_any_rows(cls, saved):
    parts = {name.removeprefix("cosine_"): str(saved / name) for name in PARTS.get(cls, ())}
    trainer = cls(
        str(saved / "t5"), plain(saved), train_dataset=datasets.Dataset.from_list(POSTS),
        eval_dataset=POSTS[:2], formatting_func=posts_to_pairs, peft_config=LoraConfig(r=2, target_modules=["q", "v"]),
        model_init_kwargs={"dtype": "float32"}, **parts,
    )  # fmt: skip
    assert isinstance(trainer.model, PeftModel) and type(trainer.args) is cls.config_class
    assert set(trainer.parts) == set(parts)
    start = {name: weight.clone() for name, weight in trainer.model.named_parameters() if weight.requires_grad}
    trainer.args.discriminator_warmup_steps, trainer.args.discriminator_steps = 0, 1  # of those that have them
    trainer.args.max_steps = 3 if parts else 2
    trainer.adopt_settings()
    trainer.train()
    moved = [name for name, weight in trainer.model.named_parameters() if weight.requires_grad]
    assert any(not torch.equal(dict(trainer.model.named_parameters())[name], start[name]) for name in moved)
    assert trainer.evaluate()["eval_loss"] > 0


@pytest.mark.parametrize("cls", GENERATORS)
def test_the_defaults_will_do(cls, saved, monkeypatch):
    monkeypatch.chdir(saved)
    parts = {name.removeprefix("cosine_"): saved / name for name in PARTS.get(cls, ())}
    trainer = cls(saved / "recurrent", train_dataset=[posts_to_pairs(row) for row in POSTS], **parts)
    assert trainer.args.output_dir == "trainer_output" and len(trainer.train_dataset) == len(POSTS)


def test_scorers_take_any_rows(saved):
    for name, cls in (("discriminator", MatchingTrainer), ("energy", DbmTrainer)):
        args = cls.config_class(str(saved / "run"), **QUIET)
        trainer = cls(saved / name, args, train_dataset=POSTS, formatting_func=lambda row: (row["post"], row["reply"]))
        trainer.train()
        assert trainer.state.global_step == 2


def test_files_are_read_by_their_names(saved, tmp_path):
    for name, rows in (("train", POSTS), ("validation", POSTS[:2])):
        datasets.Dataset.from_list([posts_to_pairs(row) for row in rows]).to_json(tmp_path / f"data/{name}.jsonl")
    trainer = MleTrainer(
        saved / "t5", plain(saved), train_dataset=str(tmp_path / "data/train.jsonl"), eval_dataset=tmp_path / "data"
    )
    assert (len(trainer.train_dataset), len(trainer.eval_dataset)) == (8, 2)
    with pytest.raises(ValueError, match="`formatting_func` gets rows, and `train_dataset` is the name"):
        MleTrainer(saved / "t5", plain(saved), train_dataset=str(tmp_path / "data"), formatting_func=posts_to_pairs)


# ---- payoffs and rewards by name ----


def test_a_payoff_by_its_name(saved):
    given = RamlTrainer(saved / "t5", plain(saved), payoff="edit", edit_rate=0.2, train_dataset=POSTS,
                        formatting_func=posts_to_pairs)  # fmt: skip
    described = RamlTrainer(saved / "t5", RamlConfig(str(saved / "run"), payoff="edit", edit_rate=0.2, **QUIET))
    for trainer in (given, described):
        assert trainer.args.payoff == "edit" and trainer.args.edit_rate == 0.2
        assert type(trainer.raml_collator.payoff).__name__ == "EditPayoff"
    assert given.raml_collator.payoff.temperature == described.raml_collator.payoff.temperature
    assert RamlTrainer(saved / "t5", plain(saved), temperature=0.3).raml_collator.payoff.temperature == 0.3
    assert ExpectedRewardTrainer(saved / "t5", reward="rouge_l").args.reward == "rouge_l"


@pytest.mark.parametrize(
    ("args", "given", "message"),
    [
        ({}, {"payoff": "edti"}, '`payoff` must be one of hamming, edit, .*got "edti"'),
        ({"payoff": "hamming"}, {"payoff": "edit"}, "`payoff` is 'edit', but `args` set it to 'hamming'. Give it once"),
        ({"temperature": 0.5}, {"edit_rate": 0.1}, "Give one of them"),
        ({}, {"payoff": "edit", "edit_rate": 9.0}, "`edit_rate` must be below 2"),
    ],
)
def test_payoffs_that_do_not_fit(args, given, message, saved):
    config = RamlConfig(str(saved / "run"), **QUIET, **args)
    with pytest.raises(ValueError, match=message):
        RamlTrainer(saved / "t5", config, **given)
    assert config.payoff == "hamming"  # what the user made is left as it was
    with pytest.raises(ValueError, match='`reward` must be one of .*got "blue"'):
        ExpectedRewardTrainer(saved / "t5", ExpectedRewardConfig(str(saved / "run")), reward="blue")


# ---- rows by a function of the user's own ----


def test_every_form_of_a_pair_in_every_form_of_rows(tiny_tokenizer):
    several = {"query": "hello", "responses": ["hello", "thanks"]}
    forms = (
        (posts_to_pairs, posts_to_pairs(POSTS[0])),
        (lambda row: (row["post"], row["reply"]), {"query": "how are you ?", "response": "i am fine ."}),
        (lambda row: ["hello", ("hello", "thanks")], {"query": "hello", "response": ("hello", "thanks")}),
        (lambda row: several | {"more": 3}, several),
        (lambda row: {"source": row["post"], "target": "hello"}, {"source": "how are you ?", "target": "hello"}),
    )  # fmt: skip
    for function, expected in forms:
        assert format_rows("train_dataset", POSTS, function)[0] == expected
    old_name = [{"query": {"text": "hello"}, "response": 3}]  # columns that are written again
    for rows in (datasets.Dataset.from_list(old_name), datasets.Dataset.from_list(old_name).to_iterable_dataset()):
        made = format_rows("train_dataset", rows, lambda row: {"query": row["query"]["text"], "response": "hello"})
        assert list(made) == [{"query": "hello", "response": "hello"}] and type(made) is type(rows)


def yielding(row):
    yield row["post"], row["reply"]


async def waiting(row):
    return row["post"], row["reply"]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("post", "`formatting_func` must be a function of a row, got 'post'"),
        (yielding, r"is a generator, which yields. Return one pair for each row: \{"),
        (waiting, "is a coroutine"),
        (lambda row: None, r"returned nothing \(`None`\) for row 0 of `train_dataset` \(columns `post`, `reply`"),
        (lambda row: row["post"], "returned one text .'how are you .'., and an encoder-decoder has two sides"),
        (lambda row: {"text": row["post"]}, "returned a dictionary of `text`: 'how are you"),
        (lambda row: {"query": row["post"], "response": row["row"]}, "`response`: 1 for row 0"),
        (lambda row: {"query": row["post"], "responses": []}, r"`responses`: \[\] for row 0"),
        (lambda row: [("a", "b"), ("c", "d"), ("e", "f")], r"returned list \[.*of length 3"),
        (lambda row: [("a", "b"), ("c", "d")], r"returned list \[.*of length 2"),
        (lambda row: ("a", "b") if row["row"] == 1 else ("a",), r"returned tuple \('a',\) of length 1 for row 1 of"),
    ],
)  # fmt: skip
def test_what_is_no_pair(function, message):
    for rows in (POSTS, datasets.Dataset.from_list(POSTS)):
        with pytest.raises(ValueError, match=message):
            format_rows("train_dataset", rows, function)


def test_an_error_of_the_function_says_at_which_row_and_streams_of_torch_are_refused():
    with pytest.raises(KeyError, match="question") as error:
        format_rows("train_dataset", POSTS, lambda row: (row["question"], row["reply"]))
    assert "at row 0 of `train_dataset` (columns `post`" in error.value.__notes__[0]
    with pytest.raises(ValueError, match="needs rows: .*got train_dataset as Rows"):
        format_rows("train_dataset", type("Rows", (), {"__iter__": lambda self: iter(POSTS)})(), posts_to_pairs)


# ---- quantization ----


@pytest.fixture
def backend(monkeypatch):
    """`backend(missing)`: makes the library of a quantization look installed, or raise what is missing."""

    def build(missing: Exception | None = None):
        def validate(self, *args, **kwargs):
            if missing is not None:
                raise missing

        for bits in (4, 8):
            monkeypatch.setattr(
                f"transformers.quantizers.quantizer_bnb_{bits}bit.Bnb{bits}BitHfQuantizer.validate_environment",
                validate,
            )

    return build


def test_a_quantization_is_handed_to_from_pretrained(saved, backend, monkeypatch, tiny_t5):
    backend()
    seen = {}

    def from_pretrained(place, **options):
        seen.update(options, place=place)
        model = tiny_t5()
        model.is_quantized, model.hf_quantizer = True, SimpleNamespace(is_trainable=True, is_qat_trainable=False)
        nothing = ("missing_keys", "unexpected_keys", "mismatched_keys")
        return model, {name: [] for name in nothing}

    monkeypatch.setattr(AutoModelForSeq2SeqLM, "from_pretrained", from_pretrained)
    trainer = RamlTrainer(
        saved / "t5", plain(saved), quantization_config=FOUR_BITS, peft_config=LoraConfig(r=2, target_modules=["q"]),
        model_init_kwargs={"dtype": "bfloat16"},
    )  # fmt: skip
    assert seen["quantization_config"] is FOUR_BITS and seen["place"] == str(saved / "t5")
    assert isinstance(trainer.model, PeftModel) and seen["dtype"] == torch.bfloat16
    # As PEFT prepares them: what is not quantized is in float32, and the adapters alone learn.
    learning = {name for name, weight in trainer.model.named_parameters() if weight.requires_grad}
    assert learning and all("lora_" in name for name in learning)
    load_generator(
        saved / "t5", quantization_config={"load_in_8bit": True, "quant_method": "bitsandbytes"}, device="cpu"
    )
    assert seen["device_map"] == {"": torch.device("cpu")}
    with pytest.raises(ValueError, match="weights of this T5.* are quantized, and cannot be trained.*`peft_config`"):
        MleTrainer(saved / "t5", plain(saved), model_init_kwargs={"quantization_config": FOUR_BITS})


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        ("t5", {"peft_config": None}, "Got a `quantization_config` without a `peft_config`: quantized weights cannot"),
        ("t5", {"quantization_config": 4}, "must be a configuration of transformers.*got int"),
        ("t5", {"model_init_kwargs": {"quantization_config": FOUR_BITS}}, "`quantization_config` twice"),
        ("recurrent", {}, "type `rnn_seq2seq` cannot be quantized: no method has recurrent layers.*T5 or BART"),
        (None, {}, "is for a `model` that is given by its name, got NoneType"),
        ("t5", {"quantization_config": {"load_in_4bit": True, "bnb_4bit_quant_type": 4}}, "cannot be used: "),
    ],
)
def test_quantizations_that_do_not_fit(model, arguments, message, saved, backend):
    backend()
    arguments = {"quantization_config": FOUR_BITS, "peft_config": LoraConfig(r=2), **arguments}
    with pytest.raises(ValueError, match=message):
        MleTrainer(model and saved / model, plain(saved), **arguments)


def test_a_quantization_without_its_library_or_hardware(saved, backend):
    arguments = {"peft_config": LoraConfig(r=2), "quantization_config": FOUR_BITS}
    backend(ImportError("Using `bitsandbytes` 4-bit quantization requires bitsandbytes: `pip install bitsandbytes`"))
    with pytest.raises(ImportError, match="asks for bitsandbytes, and a library .* missing: .*`pip install bitsandb"):
        MleTrainer(saved / "t5", plain(saved), **arguments)
    backend(RuntimeError("None of the available devices are supported."))
    with pytest.raises(ValueError, match="bitsandbytes, which cannot be used on this machine: None of the .* a GPU"):
        MleTrainer(saved / "t5", plain(saved), **arguments)


def test_an_adapter_is_not_merged_into_quantized_weights(saved, backend):
    backend()
    trainer = MleTrainer(saved / "t5", plain(saved), peft_config=LoraConfig(r=2, target_modules=["q"]))
    trainer.save_model()
    with pytest.raises(ValueError, match="is an adapter, which cannot be merged into a quantized base model. Save"):
        load_generator(saved / "run", quantization_config=FOUR_BITS)


def test_a_recogniser_is_not_quantized_and_reads_no_pairs(saved):
    with pytest.raises(ValueError, match="`SpeechRamlTrainer` cannot quantize its recogniser"):
        SpeechRamlTrainer(saved / "t5", peft_config=LoraConfig(r=2), quantization_config=FOUR_BITS)
    with pytest.raises(ValueError, match="`formatting_func` makes pairs of text, and a recogniser reads speech"):
        SpeechRamlTrainer(torch.nn.Linear(1, 1), formatting_func=posts_to_pairs)


@pytest.mark.parametrize("bits", [4, 8])
def test_adapters_of_really_quantized_weights(bits, saved, tiny_t5, tiny_tokenizer):
    pytest.importorskip("bitsandbytes")
    sizes = {"d_model": 64, "d_kv": 32, "d_ff": 64}
    tiny_t5(**sizes).save_pretrained(saved / "t5")
    trainer = MleTrainer(
        saved / "t5", plain(saved, max_steps=1), train_dataset=POSTS, formatting_func=posts_to_pairs,
        quantization_config=BitsAndBytesConfig(**{f"load_in_{bits}bit": True}),
        peft_config=LoraConfig(r=2, target_modules=["q", "v"]),
    )  # fmt: skip
    trainer.train()
    trainer.save_model()
    read_back, _ = load_generator(saved / "run")
    ids = torch.tensor([[4, 5, 2]])
    with torch.no_grad():
        trained = trainer.model.eval()(input_ids=ids, labels=ids).logits
        similarity = torch.cosine_similarity(read_back(input_ids=ids, labels=ids).logits, trained, dim=-1)
    assert similarity.min() > {4: 0.95, 8: 0.999}[bits]  # read back with a base model that is not rounded
