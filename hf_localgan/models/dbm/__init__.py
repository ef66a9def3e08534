"""The deep Boltzmann machine over a query and a response, `model_type = "query_response_dbm"`."""

from .annealing_dbm import LogPartition
from .configuration_dbm import DbmConfig
from .features_dbm import FeatureScaler, WordVectorTable
from .mean_field_dbm import MeanField
from .modeling_dbm import DbmModel, DbmOutput, DbmState
from .weights_dbm import Weights

__all__ = [
    "DbmConfig",
    "DbmModel",
    "DbmOutput",
    "DbmState",
    "FeatureScaler",
    "LogPartition",
    "MeanField",
    "Weights",
    "WordVectorTable",
]
