"""What trainers' configurations make of a launch: the environment that launchers leave, without a launch."""

import logging

import pytest

from hf_localgan.trainers import (
    DbmTrainer,
    DbmTrainingConfig,
    LocalGanConfig,
    MatchingConfig,
    MatchingTrainer,
    MleConfig,
    MleTrainer,
    RamlConfig,
)
from hf_localgan.trainers.base import launching

CONFIGS = [MleConfig, RamlConfig, LocalGanConfig, DbmTrainingConfig, MatchingConfig]
NAMES = (
    "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "ACCELERATE_MIXED_PRECISION", "ACCELERATE_USE_CPU",
    "ACCELERATE_USE_FSDP", *launching.MPI_SIZES,
)  # fmt: skip
ONE_OF_SEVERAL = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500", "ACCELERATE_MIXED_PRECISION": "no"}


class Settings:
    """As much of training arguments as is looked at before devices are."""

    def __init__(self, use_cpu: bool = False, fsdp=None):
        self.use_cpu, self.fsdp = use_cpu, fsdp


@pytest.fixture
def launched(monkeypatch):
    """`launched(**variables)`: the environment of a process that a launcher has started."""
    launching.warn_once.cache_clear()

    def start(**variables):
        for name in NAMES:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return start


@pytest.fixture
def accelerator(monkeypatch):
    """`accelerator(kind)`: a machine with one of the kind, `None` for a machine without."""

    def there_is(kind: str | None):
        found = None if kind is None else type("Device", (), {"type": kind})()
        monkeypatch.setattr(launching.torch.accelerator, "current_accelerator", lambda check_available: found)

    return there_is


@pytest.mark.parametrize(
    ("kind", "processes", "on_processors"),
    [(None, "2", True), ("mps", "2", True), ("cuda", "2", False), (None, "1", False), (None, "", False)],
)
def test_several_processes_without_an_accelerator_are_joined(launched, accelerator, kind, processes, on_processors):
    launched(WORLD_SIZE=processes, LOCAL_RANK="0")
    accelerator(kind)
    args = Settings()
    launching.settle_launch(args)
    assert args.use_cpu is on_processors


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.__name__)
def test_a_launch_that_got_one_process_of_several_is_told_once(config, launched, tmp_path, caplog):
    # What `accelerate launch --cpu --num_processes 2` leaves.
    launched(**ONE_OF_SEVERAL, ACCELERATE_USE_CPU="true")
    with caplog.at_level(logging.WARNING):
        assert config(str(tmp_path)).world_size == 1
        config(str(tmp_path))
    told = [record.message for record in caplog.records if "asked for several processes" in record.message]
    assert len(told) == 1 and "recipes/accelerate_configs/cpu_two.yaml" in told[0] and "torchrun" in told[0]


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"ACCELERATE_MIXED_PRECISION": "no"},  # one process, as asked for
        {"MASTER_ADDR": "node1", "MASTER_PORT": "1"},  # set by a cluster; nothing was launched
        {**ONE_OF_SEVERAL, "WORLD_SIZE": "2", "LOCAL_RANK": "1"},
        {**ONE_OF_SEVERAL, "WORLD_SIZE": "1", "LOCAL_RANK": "0"},  # a launcher of one process
        {**ONE_OF_SEVERAL, "OMPI_COMM_WORLD_SIZE": "2"},
    ],
    ids=str,
)
def test_other_launches_are_not_told_of(variables, launched, caplog):
    launched(**variables)
    with caplog.at_level(logging.WARNING):
        launching.settle_launch(Settings())
    assert not caplog.records


@pytest.mark.parametrize(
    ("variables", "settings"),
    [
        ({"WORLD_SIZE": "2", "ACCELERATE_USE_FSDP": "true"}, {}),
        ({"ACCELERATE_USE_CPU": "true", "ACCELERATE_USE_FSDP": "1"}, {}),
        ({}, {"use_cpu": True, "fsdp": "full_shard"}),
    ],
)
def test_sharding_on_processors_is_refused(variables, settings, launched, accelerator):
    launched(**variables)
    accelerator(None)
    with pytest.raises(ValueError, match="spreads parameters over accelerators only"):
        launching.settle_launch(Settings(**settings))


def test_sharding_on_accelerators_is_left_alone(launched, accelerator):
    launched(WORLD_SIZE="2", LOCAL_RANK="0", ACCELERATE_USE_FSDP="true")
    accelerator("cuda")
    args = Settings()
    launching.settle_launch(args)
    assert not args.use_cpu


@pytest.fixture
def sharded(monkeypatch):
    """`sharded(cls, engine)`: trainers of the class find themselves under it."""

    def set_up(cls, engine: str = "is_fsdp_enabled"):
        before = cls.create_accelerator_and_postprocess

        def found(self):
            before(self)
            setattr(self, engine, True)

        monkeypatch.setattr(cls, "create_accelerator_and_postprocess", found)

    return set_up


@pytest.mark.parametrize("name", ["t5", "bart", "rnn_seq2seq"])
def test_modules_that_share_parameters_cannot_be_sharded(name, family, pairs, trainer, sharded):
    sharded(MleTrainer)
    with pytest.raises(ValueError, match="parameters that modules share, such as .* = .*share_embeddings: false"):
        trainer(family(name), pairs(4)).train()


def test_a_sample_table_cannot_be_made_of_sharded_parameters(family, pairs, trainer, sharded):
    sharded(MleTrainer)
    with pytest.raises(ValueError, match="`sample_rows=3`.*Set it to 0"):
        trainer(family("t5"), pairs(4), sample_rows=3).train()


@pytest.mark.parametrize("engine", ["is_fsdp_enabled", "is_deepspeed_enabled"])
def test_trainers_of_small_models_refuse_to_shard_them(
    engine, tiny_discriminator, tiny_energy, vectors, energy_trainer, pairs, collate, sharded, tmp_path
):
    sharded(MatchingTrainer, engine)
    with pytest.raises(ValueError, match="FSDP and DeepSpeed may spread its parameters"):
        MatchingTrainer(
            tiny_discriminator(), MatchingConfig(str(tmp_path)), train_dataset=pairs(8), data_collator=collate
        )
    sharded(DbmTrainer, engine)
    with pytest.raises(ValueError, match="FSDP and DeepSpeed may spread its parameters"):
        energy_trainer(tiny_energy(), vectors(8))


@pytest.mark.parametrize("config", [LocalGanConfig, DbmTrainingConfig, MatchingConfig])
def test_word_vectors_are_not_sent_around_at_every_update(config, tmp_path):
    assert config(str(tmp_path)).ddp_broadcast_buffers is False
    assert config(str(tmp_path), ddp_broadcast_buffers=True).ddp_broadcast_buffers is True
