"""The deep Boltzmann machine over a query and a response, `model_type = "query_response_dbm"`."""

from .configuration_dbm import DbmConfig
from .features_dbm import FeatureScaler, WordVectorTable
from .modeling_dbm import DbmModel, DbmOutput, DbmState, MeanField

__all__ = ["DbmConfig", "DbmModel", "DbmOutput", "DbmState", "FeatureScaler", "MeanField", "WordVectorTable"]
