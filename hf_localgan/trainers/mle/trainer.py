"""Maximum likelihood."""

from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from hf_localgan.decoding.special_tokens import single_token
from hf_localgan.trainers.base.averaging import AveragedTrainer
from hf_localgan.trainers.base.randomness import UpdateRandomness
from hf_localgan.trainers.base.token_loss import MAXIMUM_LIKELIHOOD
from hf_localgan.trainers.mle.config import MleConfig


class MleTrainer(AveragedTrainer):
    """Trains an encoder-decoder by maximum likelihood: `-log p(response | query)` per token of the response.

    Loss, scaling, evaluation and arguments are those of `TokenLossTrainer`. With `source_dropout` some examples of the
    training lose their query, so that the same decoder is a language model where its source is empty. Evaluation reads
    every query.
    """

    objective = MAXIMUM_LIKELIHOOD
    config_class = MleConfig
    args: MleConfig

    @cached_property
    def _draws(self) -> UpdateRandomness:
        return UpdateRandomness(self, of_update=True)

    def _prepare_for_training(self, *args: Any, **kwargs: Any):
        self._draws.restart()
        return super()._prepare_for_training(*args, **kwargs)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
        weights: Tensor | None = None,
    ) -> Any:
        if self.args.source_dropout and self.model.training:
            self._draws.next_batch()
            inputs = self.without_queries(inputs)
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch, weights)

    def without_queries(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The batch with the queries of some rows emptied: padding alone, with mask 0.

        Args:
            inputs: with `input_ids`, shape `(batch, source_time)`.

        Raises:
            ValueError: for a batch without `input_ids`.
        """
        ids = inputs.get("input_ids")
        if ids is None:
            raise ValueError(
                f"`source_dropout={self.args.source_dropout}` empties queries of token ids, and the batch has none "
                f"(found: {', '.join(f'`{name}`' for name in inputs)}). Set it to 0."
            )
        # On the processor, so that all devices draw the same rows.
        draws = torch.rand(len(ids), generator=self._draws.generator("cpu"))
        emptied = (draws < self.args.source_dropout).to(ids.device)[:, None]
        mask = inputs.get("attention_mask")
        mask = torch.ones_like(ids) if mask is None else mask
        pad = single_token(self.model, "pad_token_id")
        return {
            **inputs,
            "input_ids": ids.masked_fill(emptied, 0 if pad is None else pad),
            "attention_mask": mask.masked_fill(emptied, 0),
        }
