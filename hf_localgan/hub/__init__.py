"""Cards of models and data sets, exported checkpoints, and uploads to and downloads from the Hub."""

from hf_localgan.hub.completions import push_completions, write_completions
from hf_localgan.hub.download import pull_checkpoint
from hf_localgan.hub.export import export_with_code, merge_adapter
from hf_localgan.hub.model_card import write_model_card
from hf_localgan.hub.objective import Objective
from hf_localgan.hub.pair_cards import write_discriminator_card, write_energy_card
from hf_localgan.hub.smalltalk import push_smalltalk, write_smalltalk
from hf_localgan.hub.spaces import push_metric
from hf_localgan.hub.upload import UploadError, push_folder

__all__ = [
    "Objective",
    "UploadError",
    "export_with_code",
    "merge_adapter",
    "pull_checkpoint",
    "push_completions",
    "push_folder",
    "push_metric",
    "push_smalltalk",
    "write_completions",
    "write_discriminator_card",
    "write_energy_card",
    "write_model_card",
    "write_smalltalk",
]
