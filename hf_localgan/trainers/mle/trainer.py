"""Maximum likelihood."""

from hf_localgan.trainers.base.token_loss import TokenLossTrainer


class MleTrainer(TokenLossTrainer):
    """Trains an encoder-decoder by maximum likelihood: `-log p(response | query)` per token of the response.

    The loss, its scaling and the evaluation are `TokenLossTrainer`'s; this objective adds nothing to them.

    Args:
        model: any encoder-decoder `PreTrainedModel`, the package's own `rnn_seq2seq` included, or a PEFT model.
        args (`MleConfig`): the settings.
        data_collator: pads `input_ids` and `labels`, such as transformers' `DataCollatorForSeq2Seq`.
        train_dataset: rows of `input_ids`, `attention_mask` and `labels` (see `encode_pairs`).
        eval_dataset: the same.
        processing_class: the tokenizer.
    """
