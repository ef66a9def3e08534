"""Beam search over a wide vocabulary: each step hands on the few continuations that the search can choose."""

import inspect
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, GenerationMixin, LogitsProcessorList

GROUP_SIZE = 16  # log-probabilities of a row that are compared at first
# Logits that exist at a time. 2 ** 23 float32 values are 32 MiB; larger tensors are taken anew from the system, page by
# page, at every step.
LOGITS = 2**23


class Shortlist:
    """The likeliest continuations of every beam.

    A beam search of `generate` takes the best `size` of all continuations of a query's beams, and these are among the
    best `size` of each beam. So the model keeps those alone, and hands the search one column in place of the
    vocabulary, whose log-probability is 0: the search adds the beam's score to it, and `continuations` adds that score
    to what was kept. Scores are sums of the same numbers as without it.

    Args:
        size: continuations that a search takes in each step.
    """

    def __init__(self, size: int):
        self.size = size
        self.log_probs: Tensor | None = None
        self.tokens: Tensor | None = None

    def read(self, hidden: Tensor, head: nn.Module) -> Tensor:
        """Keeps the best continuations of every beam.

        Args:
            hidden: inputs of the output layer at the last place, shape `(beams, hidden)`.
            head: the output layer.

        Returns:
            Zeros in place of logits, shape `(beams, 1, 1)`.
        """
        calls = 1
        if hidden.device.type == "cpu":
            calls = -(-len(hidden) * self._width(head) // LOGITS)
        best = [self._best(head(part)) for part in hidden.chunk(calls)]
        self.log_probs, self.tokens = (torch.cat(column) for column in zip(*best, strict=True))
        return hidden.new_zeros(len(hidden), 1, 1)

    @staticmethod
    def _width(head: nn.Module) -> int:
        return getattr(head, "out_features", LOGITS)  # of an adapter too

    def _best(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The largest log-probabilities of each row and their tokens, shape `(rows, size)` of each."""
        logits = logits.float()  # as `generate` does
        if logits.device.type == "cpu":
            log_probs = torch.log_softmax(logits, dim=-1, out=logits)  # in place, and exactly as elsewhere
        else:
            log_probs = logits.log_softmax(dim=-1)
        groups = log_probs.shape[1] // GROUP_SIZE
        if log_probs.device.type != "cpu" or groups < 4 * self.size:
            return log_probs.topk(self.size, dim=-1)
        # The best ones are in the groups whose best is best: `topk` over all of them would take far longer. A group has
        # every `groups`-th token, so that its best is found by whole vectors.
        whole = log_probs[:, : groups * GROUP_SIZE].unflatten(1, (GROUP_SIZE, groups))
        chosen = whole.amax(dim=1).topk(self.size, dim=-1, sorted=False).indices
        tokens = (chosen[:, None] + groups * torch.arange(GROUP_SIZE)[:, None]).flatten(1)
        rest = torch.arange(groups * GROUP_SIZE, log_probs.shape[1]).expand(len(log_probs), -1)
        tokens = torch.cat([tokens, rest], dim=1)
        best, places = log_probs.gather(1, tokens).topk(self.size, dim=-1)
        return best, tokens.gather(1, places)

    def take(self) -> tuple[Tensor, Tensor]:
        """What was kept in this step, shape `(beams, size)` of each; another step must be read before the next call."""
        assert self.log_probs is not None and self.tokens is not None
        taken = self.log_probs, self.tokens
        self.log_probs = self.tokens = None
        return taken


class ShortlistedBeams(GenerationMixin):
    """Makes the beam searches of `generate` read a shortlist where its answers are the same.

    The forward of a class with `reads_shortlists` gets `shortlist`, and returns what `Shortlist.read` returns in place
    of logits. A subclass with a forward of its own has to say it again: it may do something to the logits.
    """

    reads_shortlists = False
    lm_head: nn.Linear

    def _beam_search(
        self,
        input_ids: Tensor,
        logits_processor: LogitsProcessorList,
        stopping_criteria: Any,
        generation_config: GenerationConfig,
        synced_gpus: bool = False,
        **kwargs: Any,
    ) -> Any:
        base: Any = super()
        search = (input_ids, logits_processor, stopping_criteria, generation_config, synced_gpus)
        size = self._shortlist_size(logits_processor, generation_config)
        if size is None:
            return base._beam_search(*search, **kwargs)
        shortlist = Shortlist(size)
        token = _SHORTLIST.set(shortlist)
        try:
            return base._beam_search(*search, shortlist=shortlist, **kwargs)
        finally:
            _SHORTLIST.reset(token)

    def _shortlist_size(self, logits_processor: LogitsProcessorList, settings: Any) -> int | None:
        """How many continuations a search takes in a step; `None` where it wants to see the whole vocabulary."""
        owner = next(kind for kind in type(self).__mro__ if "forward" in vars(kind))
        if not vars(owner).get("reads_shortlists") or "forward" in vars(self) or getattr(self, "_forward_hooks", None):
            return None
        shown = settings.return_dict_in_generate and (settings.output_scores or settings.output_logits)
        weight = self.lm_head.weight
        # In half precision many continuations are equal, among which a shortlist would choose others.
        half = weight.dtype not in (torch.float32, torch.float64) or torch.is_autocast_enabled(weight.device.type)
        if len(logits_processor) or settings.do_sample or shown or half or not SEARCH_IS_KNOWN:
            return None
        ends = settings._eos_token_tensor
        size = max(2, 1 + (0 if ends is None else len(ends))) * settings.num_beams
        return size if size < len(weight) else None

    def _get_top_k_continuations(  # type: ignore[override]  # what is not read is handed on by name
        self, accumulated_log_probs: Tensor, *, cur_len: int, decoder_prompt_len: int, beams_to_keep: int, **search: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        base: Any = super()
        shortlist = _SHORTLIST.get()
        places = {"cur_len": cur_len, "decoder_prompt_len": decoder_prompt_len, "beams_to_keep": beams_to_keep}
        if shortlist is None:
            return base._get_top_k_continuations(accumulated_log_probs=accumulated_log_probs, **places, **search)
        log_probs, tokens = shortlist.take()
        assert beams_to_keep <= shortlist.size
        beams = accumulated_log_probs.shape[1]  # one column for each, its score
        scores = log_probs.unflatten(0, (-1, beams)) + accumulated_log_probs[:, :, None]
        found = base._get_top_k_continuations(accumulated_log_probs=scores.flatten(1), **places, **search)
        _, sequences, beam_indices = found
        rows = beam_indices[:, :, cur_len - decoder_prompt_len].long()
        sequences[:, :, cur_len] = tokens[rows, sequences[:, :, cur_len]]
        return found


_SHORTLIST: ContextVar[Shortlist | None] = ContextVar("_SHORTLIST", default=None)


def _search_is_known() -> bool:
    """Whether the beam search of this version of transformers takes any number of columns, and asks for the best ones.

    Older ones, such as 5.16, count on the configuration's vocabulary.
    """
    names = {"log_softmax", "_get_top_k_continuations"} <= set(GenerationMixin._beam_search.__code__.co_names)
    return names and "vocab_size" not in inspect.signature(GenerationMixin._get_top_k_continuations).parameters


SEARCH_IS_KNOWN = _search_is_known()

__all__ = ["SEARCH_IS_KNOWN", "Shortlist", "ShortlistedBeams"]
