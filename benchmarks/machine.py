"""The processor that a table was measured on."""

from hf_localgan.commands.env import processor_name


def described_processor() -> str:
    """Its name, and whether it has instructions for bfloat16."""
    import torch  # here, for it takes seconds, and who only parses options needs none

    from hf_localgan.models.rnn_seq2seq.precision_rnn_seq2seq import processor_has

    return f"{processor_name()}, {'with' if processor_has(torch.bfloat16) else 'without'} bf16 instructions"
