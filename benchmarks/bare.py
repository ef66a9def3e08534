"""The limit: the same network from `torch.nn` layers and functions called by hand, for whole, right-padded batches."""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class BareSeq2Seq(nn.Module):
    """Bidirectional LSTM encoder, LSTM decoder, general attention after the cell (Luong et al. 2015).

    No options, no cache, no masks but the source's, and target padding at the end only.
    """

    def __init__(self, vocab_size: int, hidden_size: int, embedding_size: int, input_feeding: bool = False):
        super().__init__()
        self.input_feeding = input_feeding
        self.embedding = nn.Embedding(vocab_size, embedding_size, padding_idx=0)
        self.encoder = nn.LSTM(embedding_size, hidden_size // 2, batch_first=True, bidirectional=True)
        fed = hidden_size if input_feeding else 0
        self.decoder = nn.LSTM(embedding_size + fed, hidden_size, batch_first=True)
        self.bridge = nn.Linear(hidden_size, hidden_size)
        self.query = nn.Linear(hidden_size, hidden_size, bias=False)
        self.readout = nn.Linear(2 * hidden_size, hidden_size)
        self.head = nn.Linear(hidden_size, vocab_size, bias=False)

    def encode(self, source: Tensor, lengths: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The encoder's states, `(batch, source_time, hidden)`, and the decoder's first state."""
        packed = pack_padded_sequence(self.embedding(source), lengths, batch_first=True, enforce_sorted=False)
        states, (final, _) = self.encoder(packed)
        start = torch.tanh(self.bridge(final.transpose(0, 1).flatten(1)))[None]
        return pad_packed_sequence(states, batch_first=True, total_length=source.shape[1])[0], (start, start)

    def attend(self, top: Tensor, memory: Tensor, padding: Tensor) -> Tensor:
        scores = torch.bmm(self.query(top), memory.transpose(1, 2)).masked_fill(padding, float("-inf"))
        context = torch.bmm(scores.softmax(dim=-1), memory)
        return torch.tanh(self.readout(torch.cat((top, context), dim=-1)))

    def forward(self, source: Tensor, lengths: Tensor, decoder_input: Tensor) -> Tensor:
        """What goes into the output layer, shape `(batch, time, hidden)`."""
        memory, state = self.encode(source, lengths)
        padding = (source == 0)[:, None]
        embedded = self.embedding(decoder_input)
        if not self.input_feeding:
            return self.attend(self.decoder(embedded, state)[0], memory, padding)
        return self._fed_steps(embedded, state, memory, padding)

    def _fed_steps(self, embedded: Tensor, state, memory: Tensor, padding: Tensor) -> Tensor:
        fed, outputs = memory.new_zeros(len(memory), 1, self.head.in_features), []
        for words in embedded.split(1, dim=1):
            top, state = self.decoder(torch.cat((words, fed), dim=-1), state)
            fed = self.attend(top, memory, padding)
            outputs.append(fed)
        return torch.cat(outputs, dim=1)

    @torch.no_grad()
    def greedy(self, source: Tensor, lengths: Tensor, steps: int, start: int) -> Tensor:
        """`steps` most likely tokens one by one, shape `(batch, steps)`."""
        memory, state = self.encode(source, lengths)
        padding = (source == 0)[:, None]
        word, fed = source.new_full((len(source), 1), start), memory.new_zeros(len(source), 1, self.head.in_features)
        words = []
        for _ in range(steps):
            inputs = self.embedding(word)
            top, state = self.decoder(torch.cat((inputs, fed), dim=-1) if self.input_feeding else inputs, state)
            fed = self.attend(top, memory, padding)
            word = self.head(fed).argmax(dim=-1)
            words.append(word)
        return torch.cat(words, dim=1)
