"""What becomes of precision, compilation and places to compute that the hardware has not got. All hardware is faked."""

import json
import logging
import os
import platform
import subprocess
import sys
import sysconfig
from itertools import product
from pathlib import Path

import pytest
import torch
from torch._inductor import config as inductor

from hf_localgan.models.rnn_seq2seq import precision_rnn_seq2seq as processor
from hf_localgan.trainers import DbmTrainingConfig, GanAelConfig, LocalGanConfig, MatchingConfig, MleConfig, RamlConfig
from hf_localgan.trainers.base import launching, precision
from hf_localgan.trainers.base.precision import Hardware, settle

ROOT = Path(__file__).parents[3]
TOKEN_LOSS = [MleConfig, RamlConfig, LocalGanConfig, GanAelConfig]
CONFIGS = [*TOKEN_LOSS, MatchingConfig, DbmTrainingConfig]
ALL = pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.__name__)
PLAIN = Hardware(on_processor=True, bf16=False)
CAPABLE = Hardware(on_processor=True, bf16=True, fp16=True)
GPU = Hardware(on_processor=False, has_accelerator=True, bf16=False)
NO_COMPILER = Hardware(on_processor=True, compiler_fault="there is no compiler")


@pytest.fixture
def hardware(monkeypatch):
    """`hardware(found)`: what the configurations find."""
    launching.warn_once.cache_clear()
    for name in ("ACCELERATE_MIXED_PRECISION", "ACCELERATE_USE_CPU"):
        monkeypatch.setenv(name, "")  # so that it is taken back
        monkeypatch.delenv(name)

    def there_is(found: Hardware):
        monkeypatch.setattr(precision.Hardware, "here", classmethod(lambda cls, use_cpu, compiles: found))

    return there_is


# ---- the decision ----


@pytest.mark.parametrize(
    ("asked", "changes"),
    [
        ({"bf16": True, "use_cpu": True}, {"bf16": False}),
        ({"bf16": True}, {"bf16": False}),
        ({"head_dtype": "bfloat16"}, {"head_dtype": "float32"}),
        ({"bf16_full_eval": True}, {"bf16_full_eval": False}),
        ({"fp16_full_eval": True}, {"fp16_full_eval": False}),
        ({"bf16": True, "head_dtype": "bfloat16"}, {"bf16": False, "head_dtype": "float32"}),
    ],
    ids=str,
)
def test_float32_takes_the_place_of_what_the_processor_lacks(asked, changes):
    settlement = settle(asked, PLAIN)
    assert settlement.changes == changes
    assert len(settlement.lines) == len(changes)
    for name, line in zip(changes, settlement.lines, strict=True):
        assert line.startswith(f"`{name}: ") and "float32 takes its place" in line


@pytest.mark.parametrize(
    "asked",
    [
        {}, {"bf16": False, "fp16": False, "tf32": False, "head_dtype": "auto"}, {"head_dtype": "float32"},
        {"tf32": None},
        {"bf16_full_eval": True, "fp16_full_eval": True},  # refused by transformers
        {"ddp_backend": "gloo"},
    ],
    ids=str,
)  # fmt: skip
def test_what_every_processor_has_stays_without_a_word(asked):
    settlement = settle({**asked, "use_cpu": True}, PLAIN)
    assert settlement.changes == {} and settlement.lines == []


def test_a_capable_processor_and_a_gpu_compute_as_asked():
    asked = {"bf16": True, "head_dtype": "bfloat16", "fp16_full_eval": True}
    assert settle({**asked, "use_cpu": True}, CAPABLE).changes == {}
    assert settle(asked, CAPABLE).changes == {"use_cpu": True}  # there is nothing else
    on_gpu = settle({**asked, "bf16": False, "fp16": True, "tf32": True, "ddp_backend": "nccl"}, GPU)
    assert on_gpu.changes == {} and on_gpu.lines == []


@pytest.mark.parametrize("use_cpu", [False, True])
@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"fp16": True}, "`fp16: true`.* needs a GPU, and this run is on the processor. Set `bf16: true`"),
        ({"tf32": True}, "`tf32: true` is a mode of NVIDIA GPUs.* Leave it out"),
        ({"ddp_backend": "nccl"}, "`ddp_backend: nccl` joins GPUs.* Leave it out"),
    ],
)
def test_what_has_no_substitute_on_the_processor_is_refused_with_the_remedy(asked, message, use_cpu):
    beside_a_gpu = Hardware(on_processor=True, has_accelerator=use_cpu)
    with pytest.raises(ValueError, match=message) as error:
        settle({**asked, "use_cpu": use_cpu}, beside_a_gpu)
    assert ("leave `use_cpu` out" in str(error.value)) is use_cpu


@pytest.mark.parametrize("asked", [{"torch_compile": True}, {"torch_compile_mode": "default"}], ids=str)
def test_without_a_compiler_the_model_stays_plain(asked):
    asked = {"torch_compile": False, "torch_compile_backend": None, "torch_compile_mode": None, **asked}
    settlement = settle(asked, NO_COMPILER)
    assert settlement.changes == {"torch_compile": False, "torch_compile_backend": None, "torch_compile_mode": None}
    assert "the model is not compiled, for there is no compiler" in settlement.lines[0]
    assert settle({**asked, "torch_compile_backend": "eager"}, NO_COMPILER).changes == {}
    assert settle(asked, CAPABLE).changes == {}


def test_an_option_that_does_nothing_on_the_processor_is_told():
    settlement = settle({"torch_empty_cache_steps": 5, "use_cpu": True}, CAPABLE)
    assert settlement.changes == {} and "`torch_empty_cache_steps: 5` does nothing" in settlement.lines[0]
    assert settle({"torch_empty_cache_steps": 5}, GPU).lines == []


# ---- the configurations ----


@ALL
def test_every_configuration_falls_back_and_tells_it_once(config, hardware, tmp_path, caplog):
    hardware(PLAIN)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):  # a recipe of several stages makes several
            args = config(str(tmp_path), bf16=True)
            assert (args.bf16, args.mixed_precision) == (False, "no")
    told = [record.message for record in caplog.records if "float32 takes its place" in record.message]
    assert len(told) == 1 and told[0].startswith("`bf16: true`")


@ALL
def test_bfloat16_is_kept_where_it_is_fast_though_nobody_chose_the_processor(config, hardware, tmp_path, caplog):
    hardware(CAPABLE)
    with caplog.at_level(logging.WARNING):
        args = config(str(tmp_path), bf16=True)
    assert (args.bf16, args.mixed_precision, args.device.type) == (True, "bf16", "cpu")
    assert "`bf16" not in caplog.text


@pytest.mark.parametrize("config", TOKEN_LOSS, ids=lambda config: config.__name__)
def test_the_output_layer_falls_back_too(config, hardware, tmp_path):
    hardware(PLAIN)
    assert config(str(tmp_path), head_dtype="bfloat16").head_dtype == "float32"
    args = config(str(tmp_path), bf16=True)
    assert (args.head_dtype, args.bf16) == ("auto", False)  # `auto` is bfloat16 under `bf16` only


@ALL
@pytest.mark.parametrize("name", ["fp16", "tf32"])
def test_every_configuration_refuses_modes_of_gpus_on_the_processor(config, name, hardware, tmp_path):
    hardware(CAPABLE)
    with pytest.raises(ValueError, match=f"`{name}"):
        config(str(tmp_path), use_cpu=True, **{name: True})


@pytest.mark.parametrize("arguments", [{"bf16_full_eval": True}, {"fp16_full_eval": True}, {"torch_compile": True}])
def test_falling_back_loosens_no_refusal(arguments, hardware, tmp_path):
    hardware(Hardware(on_processor=True, bf16=False, compiler_fault="there is no compiler"))
    with pytest.raises(ValueError, match=f"`{next(iter(arguments))}` is not supported"):
        DbmTrainingConfig(str(tmp_path), use_cpu=True, **arguments)


def test_a_precision_that_only_the_launch_asked_for_is_settled_too(hardware, tmp_path, monkeypatch):
    hardware(PLAIN)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert MleConfig(str(tmp_path)).mixed_precision == "no"
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    with pytest.raises(ValueError, match="--mixed_precision fp16"):
        MleConfig(str(tmp_path))
    hardware(CAPABLE)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert MleConfig(str(tmp_path)).mixed_precision == "bf16"


# ---- what is there ----


@pytest.mark.parametrize(
    ("accelerator", "use_cpu", "launched", "on_processor"),
    [
        (None, False, "", True), (None, True, "", True), ("cuda", False, "", False), ("cuda", True, "", True),
        ("cuda", False, "true", True), ("mps", False, "", False),
    ],
)  # fmt: skip
def test_where_a_run_computes(accelerator, use_cpu, launched, on_processor, monkeypatch):
    found = None if accelerator is None else torch.device(accelerator)
    monkeypatch.setattr(precision.torch.accelerator, "current_accelerator", lambda check_available: found)
    monkeypatch.setenv("ACCELERATE_USE_CPU", launched)
    there = Hardware.here(use_cpu, compiles=False)
    assert (there.on_processor, there.has_accelerator) == (on_processor, accelerator is not None)
    changes = settle({"use_cpu": use_cpu}, there).changes
    assert changes == ({"use_cpu": True} if launched else {})  # which transformers would overlook beside a GPU


@pytest.mark.parametrize(("supported", "instructions"), product([False, True], repeat=2))
@pytest.mark.parametrize("held_to", ["", "ALL", "avx512_core", "AVX512_CORE_VNNI", "AVX512_CORE_BF16"])
def test_bfloat16_needs_its_instructions_and_leave_to_use_them(supported, instructions, held_to, monkeypatch):
    # oneDNN takes any AVX-512 for enough, and then widens bfloat16 to float32.
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: supported)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: instructions)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", held_to)
    look = processor.processor_has.__wrapped__
    assert look(torch.bfloat16) is (supported and instructions and not held_to.upper().endswith(("CORE", "VNNI")))
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert look(torch.bfloat16) is supported
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert look(torch.bfloat16) is False and look(torch.float32) is True


@pytest.mark.skipif(sys.platform == "win32", reason="another compiler")
def test_a_compiler_and_headers_that_are_not_there_are_missed(monkeypatch, tmp_path):
    look = precision._compiler_fault.__wrapped__
    compilers = tmp_path / "bin"
    compilers.mkdir()
    with inductor.patch({"cpp.cxx": (None, str(compilers / "g++"))}):
        assert "there is no C++ compiler" in look(True)
        (compilers / "g++").write_text("#!/bin/sh\n")
        (compilers / "g++").chmod(0o755)
        monkeypatch.setattr(sys, "platform", "linux")
        monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
        assert "Python.h is missing" in look(True)
        (tmp_path / "Python.h").touch()
        assert look(True) == ""


# ---- resuming ----


def test_another_precision_than_the_checkpoints_is_told(hardware, tmp_path, caplog):
    hardware(PLAIN)
    args = MleConfig(str(tmp_path / "run"), bf16=True)
    (tmp_path / "training_args.json").write_text(args.to_json_string())
    with caplog.at_level(logging.WARNING):
        precision.warn_of_new_precision(tmp_path, MleConfig(str(tmp_path / "run"), bf16=True))
        precision.warn_of_new_precision(tmp_path / "nowhere", args)
    assert "checkpoint" not in caplog.text
    hardware(CAPABLE)
    with caplog.at_level(logging.WARNING):
        precision.warn_of_new_precision(tmp_path, MleConfig(str(tmp_path / "run"), bf16=True))
    assert "was trained with `bf16: false`; this run continues with `bf16: true`" in caplog.text
    assert (
        json.loads((tmp_path / "training_args.json").read_text())["bf16"] is False
    )  # what happened, not what was asked


@pytest.mark.slow
@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="instruction sets of x86-64")
@pytest.mark.parametrize("instructions", ["SSE41", "AVX2", "AVX512_CORE"])
def test_on_a_plain_processor(instructions):
    # The tests that `make test-plain` runs among others, in a process that has not looked at the processor yet.
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": instructions, "PYTHONPATH": str(ROOT)}
    tests = "tests/trainers/base/test_trainer_precision.py", "tests/models/test_rnn_seq2seq_precision.py"
    options = "-q", "-p", "no:cacheprovider", "-k", "bfloat16 and (lstm or autocast)"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *tests],
        cwd=ROOT, env=environment, text=True, capture_output=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
