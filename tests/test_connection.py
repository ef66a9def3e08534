"""Whether the Hub has an address: told at once, and never guessed."""

import os
import socket
import time

import huggingface_hub.constants
import pytest

from hf_localgan import connection
from hf_localgan.connection import hub_has_no_address, use_the_cache_if_cut_off
from hf_localgan.models import places


@pytest.fixture
def named(monkeypatch):
    """`named(resolve)`: the Hub has a name, which is resolved so, and there is no proxy."""

    def use(resolve):
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "https://hub.invalid")
        monkeypatch.setattr(connection, "getproxies", dict)
        monkeypatch.setattr(socket, "getaddrinfo", resolve)

    return use


def unknown(*_):
    raise socket.gaierror(-2, "Name or service not known")


def test_a_name_that_is_not_known_is_told_and_one_that_is_known_or_slow_is_not(named, monkeypatch):
    named(unknown)
    assert hub_has_no_address()
    monkeypatch.setattr(connection, "getproxies", lambda: {"https": "http://proxy:3128"})
    assert not hub_has_no_address()
    named(lambda *_: [])
    assert not hub_has_no_address()
    monkeypatch.setattr(connection, "WAIT", 0.01)
    named(lambda *_: time.sleep(0.2))
    assert not hub_has_no_address()


@pytest.mark.parametrize(("given", "resolve", "left"), [(None, unknown, "1"), ("0", unknown, "0"), (None, list, None)])
def test_commands_use_the_cache_where_there_is_no_address(given, resolve, left, named, monkeypatch):
    named(lambda *_: resolve())
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "")  # so that it is put back
    monkeypatch.delenv("HF_HUB_OFFLINE") if given is None else monkeypatch.setenv("HF_HUB_OFFLINE", given)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    use_the_cache_if_cut_off()
    assert huggingface_hub.constants.HF_HUB_OFFLINE == (given is None and left == "1")
    assert os.environ.get("HF_HUB_OFFLINE") == left


@pytest.mark.parametrize("resolve", [unknown, lambda *_: []])
def test_a_model_is_looked_up_in_the_cache_alone_where_there_is_no_address(resolve, named, monkeypatch, tmp_path):
    named(resolve)
    asked = {}
    monkeypatch.setattr(places, "hf_hub_download", lambda *words, **settings: asked.update(settings) or tmp_path)
    assert places.find_file("somebody/model", "config.json") == tmp_path
    assert asked["local_files_only"] == (resolve is unknown)
