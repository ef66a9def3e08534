"""What `datasets` leaves behind when it works in several processes."""

import os

import pytest
from datasets import Dataset

from hf_localgan.data.processes import PARALLELISM, kept_environment


@pytest.mark.parametrize("value", [None, "true"])
def test_the_environment_is_the_same_object_with_the_same_content(monkeypatch, value):
    monkeypatch.delenv(PARALLELISM, raising=False)
    if value is not None:
        monkeypatch.setenv(PARALLELISM, value)
    environment, content = os.environ, dict(os.environ)
    with kept_environment():
        doubled = Dataset.from_dict({"a": [1, 2, 3]}).map(lambda row: {"a": 2 * row["a"]}, num_proc=2)
    assert os.environ is environment and dict(os.environ) == content and doubled["a"][:] == [2, 4, 6]
    with pytest.raises(ZeroDivisionError), kept_environment():
        Dataset.from_dict({"a": [1, 2]}).map(lambda row: {"a": row["a"] / 0}, num_proc=2)
    assert os.environ is environment and dict(os.environ) == content
