"""What is timed against what: one process per variant."""

from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
HIDDEN_SIZE = EMBEDDING_SIZE = 256

# Layers on either side and width of the feed-forward layers that give T5, which ties its output layer to its embeddings,
# the number of parameters of the recurrent model, which does not.
T5_SHAPES = {8_000: (2, 832), 40_000: (6, 1104)}


@dataclass
class Variant:
    """One system with its settings.

    Args:
        title: its row in the table.
        script: the worker that runs it.
        build: what the worker builds it from, without the sizes.
        reference: the variant of JoeyNMT that its speed is divided by.
        grouped: whether it trains on batches grouped by length.
        trains, generates: which tables it is in.
        beams: whether it has a beam search.
    """

    title: str
    script: str
    build: dict = field(default_factory=dict)
    reference: str = "joeynmt"
    grouped: bool = False
    trains: bool = True
    generates: bool = False
    beams: bool = True

    @property
    def batches(self) -> str:
        return "grouped" if self.grouped else "random"


def variants(vocab_size: int) -> dict[str, Variant]:
    """All variants by name, in the order of the table."""
    layers, d_ff = T5_SHAPES[vocab_size]
    plain, fast, bf16 = {"loss": "plain"}, {}, {"head_dtype": "bfloat16"}
    fed = {"input_feeding": True}
    rnn = {"kind": "transformers", "architecture": "rnn"}
    t5 = {"kind": "transformers", "architecture": "t5", "layers": layers, "d_ff": d_ff}
    shallow = {**t5, "layers": 1, "d_ff": 512}
    bare = {"kind": "bare"}
    trainer = {"kind": "trainer", "architecture": "rnn", "loop": {}}
    best = {"head_dtype": "bfloat16", "train_sampling_strategy": "group_by_length"}
    joey, torch, own = "joeynmt_worker.py", "torch_worker.py", "trainer_worker.py"
    return {
        "joeynmt": Variant("JoeyNMT as it comes", joey, generates=True),
        "joeynmt_fed": Variant("JoeyNMT, input feeding", joey, fed, "joeynmt_fed", generates=True),
        "t5": Variant("T5, equal parameters, stock loss", torch, {**t5, "loop": plain}, generates=True),
        "t5_fast": Variant("T5, equal parameters, fast loss", torch, {**t5, "loop": fast}),
        "t5_shallow": Variant("T5, 1 + 1 layers, stock loss", torch, {**shallow, "loop": plain}, generates=True),
        "bare": Variant(
            "bare torch, plain loss, Adam",
            torch,
            {**bare, "loop": {**plain, "optimizer": "adam"}},
            generates=True,
            beams=False,
        ),
        "bare_fast": Variant("bare torch, fast loss", torch, {**bare, "loop": fast}),
        "bare_bf16": Variant("bare torch, fast loss, bf16 head", torch, {**bare, "loop": bf16}),
        "bare_grouped": Variant("bare torch, bf16 head, grouped", torch, {**bare, "loop": bf16}, grouped=True),
        "bare_fed": Variant(
            "bare torch, input feeding, fast loss",
            torch,
            {**bare, **fed, "loop": fast},
            "joeynmt_fed",
            generates=True,
            beams=False,
        ),
        "ours_plain": Variant("rnn_seq2seq, plain loss", torch, {**rnn, "loop": plain}, generates=True),
        "ours_fast": Variant("rnn_seq2seq, fast loss", torch, {**rnn, "loop": fast}),
        "ours_bf16": Variant("rnn_seq2seq, fast loss, bf16 head", torch, {**rnn, "loop": bf16}),
        "ours_grouped": Variant("rnn_seq2seq, bf16 head, grouped", torch, {**rnn, "loop": bf16}, grouped=True),
        "ours_fed": Variant(
            "rnn_seq2seq, input feeding, fast loss", torch, {**rnn, **fed, "loop": fast}, "joeynmt_fed", generates=True
        ),
        "trainer": Variant(
            "MleTrainer, fast loss", own, {**trainer, "config": {"train_sampling_strategy": "sequential"}}
        ),
        "trainer_grouped": Variant("MleTrainer, bf16 head, grouped", own, {**trainer, "config": best}, grouped=True),
    }
