"""What is timed against what: one process per variant."""

from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
HIDDEN_SIZE = EMBEDDING_SIZE = 256

# Layers on either side and width of the feed-forward layers that give T5, which ties its output layer to its
# embeddings, the number of parameters of the recurrent model, which does not.
T5_SHAPES = {8_000: (2, 832), 40_000: (6, 1104)}

# Tensors beyond 32 MiB (logits, gradients of the tables) are taken anew from the system at every use, page by page.
# This variable of torch's asks for pages of 2 MiB, where the system allows them on request ("madvise").
HUGE_PAGES = {"THP_MEM_ALLOC_ENABLE": "1"}


@dataclass
class Variant:
    """One system with its settings.

    Args:
        title: its row in the table.
        script: the worker that runs it.
        build: what the worker builds it from, without the sizes.
        reference: the variant of JoeyNMT that its speed is divided by.
        grouped: whether it trains on batches grouped by length.
        generates: whether it is in the table of generation.
        beams: whether it has a beam search.
        environment: variables of its process.
    """

    title: str
    script: str
    build: dict = field(default_factory=dict)
    reference: str = "joeynmt"
    grouped: bool = False
    generates: bool = False
    beams: bool = True
    environment: dict[str, str] | None = None


def variants(vocab_size: int, bf16: bool = True) -> dict[str, Variant]:
    """All variants by name, in the order of the table.

    Args:
        vocab_size: number of words.
        bf16: whether the processor has bfloat16 instructions. Without them the best settings are those in float32, as
            the package's trainers have it, and the variants that differ by the precision alone are left out.
    """
    layers, d_ff = T5_SHAPES[vocab_size]
    plain, fast = {"loss": "plain"}, {}
    best, best_title = ({"head_dtype": "bfloat16"}, "bf16 head") if bf16 else (fast, "fast loss")
    fed = {"input_feeding": True}
    rnn = {"kind": "transformers", "architecture": "rnn"}
    t5 = {"kind": "transformers", "architecture": "t5", "layers": layers, "d_ff": d_ff}
    shallow = {**t5, "layers": 1, "d_ff": 512}
    bare = {"kind": "bare"}
    trainer = {"kind": "trainer", "architecture": "rnn", "loop": {}}
    # The batches of the other systems in their order; `group_by_length` would make others, of so few pairs poor ones.
    as_given = {"train_sampling_strategy": "sequential"}
    joey, torch, own = "joeynmt_worker.py", "torch_worker.py", "trainer_worker.py"
    named = {
        "joeynmt": Variant("JoeyNMT as it comes", joey, generates=True),
        "joeynmt_fed": Variant("JoeyNMT, input feeding", joey, fed, "joeynmt_fed", generates=True),
        "joeynmt_huge": Variant("JoeyNMT, huge pages", joey, generates=True, environment=HUGE_PAGES),
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
        "bare_bf16": Variant("bare torch, fast loss, bf16 head", torch, {**bare, "loop": best}),
        "bare_grouped": Variant(f"bare torch, {best_title}, grouped", torch, {**bare, "loop": best}, grouped=True),
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
        "ours_bf16": Variant("rnn_seq2seq, fast loss, bf16 head", torch, {**rnn, "loop": best}),
        "ours_grouped": Variant(f"rnn_seq2seq, {best_title}, grouped", torch, {**rnn, "loop": best}, grouped=True),
        "ours_huge": Variant(
            f"rnn_seq2seq, {best_title}, grouped, huge pages",
            torch,
            {**rnn, "loop": best},
            grouped=True,
            generates=True,
            environment=HUGE_PAGES,
        ),
        "ours_fed": Variant(
            "rnn_seq2seq, input feeding, fast loss", torch, {**rnn, **fed, "loop": fast}, "joeynmt_fed", generates=True
        ),
        "trainer": Variant("MleTrainer, fast loss", own, {**trainer, "config": as_given}),
        "trainer_grouped": Variant(
            f"MleTrainer, {best_title}, grouped", own, {**trainer, "config": {**as_given, **best}}, grouped=True
        ),
    }
    return {name: variant for name, variant in named.items() if bf16 or name not in ("bare_bf16", "ours_bf16")}
