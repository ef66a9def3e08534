"""Parameters spread over two processes by FSDP, against one process that has them all. One launch for all of it."""

import pytest
import torch

SCRIPT = "sharded_processes.py"  # of the fixtures `one` and `two`
OWN_LAUNCH = True  # it pretends accelerators
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", ["mle", "raml"])
def test_losses_are_those_of_one_process(kind, one, two):
    assert one[kind]["sharded"] == ["Parameter"] and two[0][kind]["sharded"] == ["DTensor"]
    assert len(one[kind]["loss"]) == 6 and len(one[kind]["eval"]) == 2
    for key in ("loss", "eval"):
        assert two[0][kind][key] == two[1][kind][key] == pytest.approx(one[kind][key], abs=1e-5)


@pytest.mark.parametrize("kind", ["mle", "raml"])
@pytest.mark.parametrize("what", ["saved", "checkpoint", "resumed"])
def test_files_have_all_parameters_of_one_process(kind, what, one, two):
    alone, sharded = one[kind][what], two[0][kind][what]
    assert alone.keys() == sharded.keys()
    for name, values in alone.items():
        torch.testing.assert_close(torch.tensor(sharded[name]), torch.tensor(values), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["t5", "bart", "rnn_seq2seq"])
def test_shared_parameters_are_refused_at_the_start(name, one, two):
    for measured in two:
        said = measured["refused"][name]
        assert "cannot shard parameters that modules share" in said and "share_embeddings: false" in said
    assert one["refused"][name] == ""


def test_a_sample_table_is_refused_at_the_start(one, two):
    for measured in two:
        assert measured["refused"]["samples"].startswith("`sample_rows=2`")
    assert one["refused"]["samples"] == ""
