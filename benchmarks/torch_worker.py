"""The package's generator, T5 and bare torch, in the package's environment."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
import transformers
from bare import BareSeq2Seq
from protocol import serve
from torch import Tensor, nn
from transformers import PreTrainedModel, T5Config, T5ForConditionalGeneration
from workload import BOS, EOS, PAD

from hf_localgan.functional.cross_entropy import linear_cross_entropy
from hf_localgan.models import RnnSeq2SeqConfig, RnnSeq2SeqForConditionalGeneration

LEARNING_RATE, MAX_NORM = 1e-4, 1.0


def make_rnn(vocab_size: int, hidden_size: int, embedding_size: int, input_feeding: bool = False) -> PreTrainedModel:
    return RnnSeq2SeqForConditionalGeneration(
        RnnSeq2SeqConfig(
            vocab_size=vocab_size,
            hidden_size=hidden_size,
            embedding_size=embedding_size,
            cell_type="lstm",
            attention="general",
            input_feeding=input_feeding,
        )
    )


def make_t5(vocab_size: int, hidden_size: int, embedding_size: int, layers: int, d_ff: int) -> PreTrainedModel:
    return T5ForConditionalGeneration(
        T5Config(
            vocab_size=vocab_size,
            d_model=hidden_size,
            num_layers=layers,
            d_ff=d_ff,
            num_heads=4,
            d_kv=hidden_size // 4,
            dropout_rate=0.0,  # the recurrent models have none either
            pad_token_id=PAD,
            eos_token_id=EOS,
            decoder_start_token_id=BOS,
        )
    )


def padded(sequences: list[list[int]], value: int) -> Tensor:
    return nn.utils.rnn.pad_sequence([torch.tensor(s) for s in sequences], batch_first=True, padding_value=value)


class System:
    """A model, an optimizer and the loop of one variant. Subclasses say what the loss of a batch is."""

    model: nn.Module

    def __init__(self, model: nn.Module, optimizer: str = "fused", loss: str = "fast", head_dtype: str | None = None):
        self.model, self.loss_kind = model, loss
        self.head_dtype = getattr(torch, head_dtype) if head_dtype else None
        if optimizer == "fused":
            self.optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=0.0, fused=True)
        else:
            self.optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE)
        self.batches = {}

    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())

    def load(self, key: str, batches: list):
        self.batches[key] = [self.collate(batch) for batch in batches]

    def collate(self, batch: list) -> dict[str, Tensor]:
        source, labels = padded([s for s, _ in batch], PAD), padded([t for _, t in batch], -100)
        return {"input_ids": source, "attention_mask": (source != PAD).long(), "labels": labels}

    def train(self, key: str):
        self.model.train()
        for batch in self.batches[key]:
            loss = self.loss(batch)
            loss.backward()
            loss.item()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), MAX_NORM)
            self.optimizer.step()
            self.optimizer.zero_grad()

    def fast_loss(self, hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
        return linear_cross_entropy(
            hidden, weight, labels, divisor=(labels != -100).sum(), matmul_dtype=self.head_dtype
        )

    def gradient_difference(self, key: str) -> dict:
        """How far the fast loss's gradients are from the plain loss's, over all parameters of one batch."""
        batch, found = self.batches[key][0], {}
        for kind in ("plain", "fast"):
            self.loss_kind = kind
            self.model.zero_grad()
            self.loss(batch).backward()
            found[kind] = torch.cat([parameter.grad.flatten() for parameter in self.model.parameters()]).double()
        self.model.zero_grad()
        difference = found["fast"] - found["plain"]
        return {
            "relative": (difference.norm() / found["plain"].norm()).item(),
            "largest": difference.abs().max().item(),
        }

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        raise NotImplementedError


class Bare(System):
    def __init__(self, loop: dict, **sizes):
        super().__init__(BareSeq2Seq(**sizes), **loop)

    def collate(self, batch: list) -> dict[str, Tensor]:
        tensors = super().collate(batch)
        inputs = padded([[BOS, *target[:-1]] for _, target in batch], PAD)
        return {**tensors, "lengths": tensors["attention_mask"].sum(dim=1), "decoder_input": inputs}

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        hidden, labels = self.model(batch["input_ids"], batch["lengths"], batch["decoder_input"]), batch["labels"]
        if self.loss_kind == "fast":
            return self.fast_loss(hidden, self.model.head.weight, labels)
        logits = F.linear(hidden, self.model.head.weight)
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)

    def generate(self, key: str, beams: int, length: int) -> dict:
        if beams > 1:
            raise ValueError("The bare model has no beam search.")
        batches = self.batches[key]
        words = [self.model.greedy(batch["input_ids"], batch["lengths"], length, BOS) for batch in batches]
        return {"tokens": sum(word.numel() for word in words)}


class HuggingFace(System):
    """A transformers model: ours or T5."""

    def __init__(self, architecture: str, loop: dict, **sizes):
        super().__init__({"rnn": make_rnn, "t5": make_t5}[architecture](**sizes), **loop)

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        if self.loss_kind == "plain":
            return self.model(**batch).loss
        labels = batch["labels"]
        inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
        inputs["decoder_input_ids"] = self.model.prepare_decoder_input_ids_from_labels(labels=labels)
        head, self.model.lm_head = self.model.lm_head, nn.Identity()
        hidden = self.model(**inputs, use_cache=False).logits
        self.model.lm_head = head
        return self.fast_loss(hidden, head.weight, labels)

    def generate(self, key: str, beams: int, length: int) -> dict:
        self.model.eval()
        tokens = 0
        for batch in self.batches[key]:
            output = self.model.generate(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                num_beams=beams,
                do_sample=False,
                max_new_tokens=length,
                eos_token_id=self.model.config.vocab_size,  # never chosen; `min_new_tokens` would copy all logits twice
            )
            tokens += output[:, 1:].numel()
        return {"tokens": tokens}


def maker(systems: dict[str, type[System]]) -> Callable[..., System]:
    def make_system(kind: str, **arguments) -> System:
        torch.manual_seed(0)
        transformers.logging.set_verbosity_error()
        return systems[kind](**arguments)

    return make_system


if __name__ == "__main__":
    serve(maker({"bare": Bare, "transformers": HuggingFace}))
