"""JoeyNMT's recurrent model, trained and searched with its own functions. Runs in JoeyNMT's environment.

JoeyNMT's `TrainManager` reads its data and settings from files. What it does with one batch (`_train_step` and the
update that follows) is written out here; model, loss, batch, clipping, optimizer and search are JoeyNMT's.
"""

from types import SimpleNamespace

import torch
from joeynmt.batch import Batch
from joeynmt.builders import build_gradient_clipper, build_optimizer
from joeynmt.model import build_model
from joeynmt.search import search
from joeynmt.vocabulary import Vocabulary
from protocol import serve

UNK, PAD, BOS, EOS = range(4)  # JoeyNMT's; ids 0, 1, 2 of the requests are padding, begin and end


class JoeyNmt:
    def __init__(self, vocab_size: int, hidden_size: int, embedding_size: int, input_feeding: bool = False):
        torch.manual_seed(0)
        vocabulary = make_vocabulary(vocab_size)
        self.model = build_model(
            {
                "tied_embeddings": True,
                "encoder": {
                    "type": "recurrent",
                    "rnn_type": "lstm",
                    "bidirectional": True,
                    "hidden_size": hidden_size // 2,  # per direction
                    "num_layers": 1,
                    "embeddings": {"embedding_dim": embedding_size},
                },
                "decoder": {
                    "type": "recurrent",
                    "rnn_type": "lstm",
                    "hidden_size": hidden_size,
                    "num_layers": 1,
                    "attention": "luong",
                    "input_feeding": input_feeding,
                    "init_hidden": "bridge",
                    "embeddings": {"embedding_dim": embedding_size},
                },
            },
            src_vocab=vocabulary,
            trg_vocab=vocabulary,
        )
        self.model.loss_function = ("crossentropy", 0.0)
        self.optimizer = build_optimizer({"optimizer": "adam", "learning_rate": 1e-4}, self.model.parameters())
        self.clip = build_gradient_clipper({"clip_grad_val": None, "clip_grad_norm": 1.0})
        self.batches = {}

    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())

    def load(self, key: str, batches: list):
        self.batches[key] = [
            ([torch.tensor(translated(s)) for s, _ in batch], [torch.tensor([BOS, *translated(t)]) for _, t in batch])
            for batch in batches
        ]
        self.batches[key] = [(*padded(sources), padded(targets)[0]) for sources, targets in self.batches[key]]

    def batch(self, source, lengths, target) -> Batch:
        return Batch(
            src=source,
            src_length=lengths,
            src_prompt_mask=None,
            trg=target,
            trg_prompt_mask=None,
            indices=torch.arange(len(source)),
            device=torch.device("cpu"),
            pad_index=PAD,
            eos_index=EOS,
        )

    def train(self, key: str):
        self.model.train()
        for tensors in self.batches[key]:
            batch = self.batch(*tensors)
            batch.sort_by_src_length()
            loss, _, _, correct = self.model(return_type="loss", **vars(batch))
            loss = batch.normalize(loss, normalization="tokens")
            loss.backward()
            loss.item(), correct.item()
            self.clip(parameters=self.model.parameters())
            self.optimizer.step()
            self.model.zero_grad()

    def generate(self, key: str, beams: int, length: int) -> dict:
        self.model.eval()
        tokens = 0
        for source, lengths, _ in self.batches[key]:
            batch = self.batch(source, lengths, None)
            batch.sort_by_src_length()
            output, _, _ = search(
                self.model,
                batch,
                max_output_length=length,
                min_output_length=length,  # no end of sequence before
                beam_size=beams,
                beam_alpha=-1,  # no length penalty; all hypotheses have one length
                n_best=1,
            )
            tokens += output.size
        return {"tokens": tokens}


def translated(ids: list[int]) -> list[int]:
    return [{0: PAD, 1: BOS, 2: EOS}.get(token, token) for token in ids]


def padded(sequences: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    tensor = torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True, padding_value=PAD)
    return tensor, torch.tensor([len(sequence) for sequence in sequences])


def make_vocabulary(size: int) -> Vocabulary:
    """`size` tokens. Written into place, for `Vocabulary` itself needs a minute for 40,000."""
    specials = {"unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "sep_token": None}
    ids = {"unk_id": UNK, "pad_id": PAD, "bos_id": BOS, "eos_id": EOS, "sep_id": None}
    vocabulary = Vocabulary([], SimpleNamespace(**specials, **ids, lang_tags=[]))
    words = [f"w{number}" for number in range(len(vocabulary), size)]
    vocabulary._itos += words
    vocabulary._stoi.update({word: number for number, word in enumerate(words, len(vocabulary._stoi))})
    return vocabulary


if __name__ == "__main__":
    serve(JoeyNmt)
