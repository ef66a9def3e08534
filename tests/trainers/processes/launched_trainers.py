"""What `test_accelerate_launch.py` starts by `accelerate launch`: all trainers, one after another, then in one process.

accelerate launch --config_file CONFIG launched_trainers.py PROCESSES FOLDER
"""

from pathlib import Path

from dbm_two_processes import build as energy_trainer
from expected_reward_processes import Fixed
from expected_reward_processes import train as expected_reward
from gan_processes import STILL
from gan_processes import Runs as Players
from matching_two_processes import train as matching
from raml_two_processes import train as raml
from tiny_runs import flat, report
from two_processes import Runs

from hf_localgan.trainers.adversarial.gan_ael_trainer import GanAelTrainer
from hf_localgan.trainers.adversarial.localgan_trainer import LocalGanTrainer


def energy(processes: int, folder: Path) -> dict:
    """Its noise differs between processes, so that two are not one; its scalers and its steps are the same."""
    run = energy_trainer("dbm", processes, folder / "energy")
    run.train()
    scalers = [value.tolist() for scaler in (run.model.query_scaler, run.model.response_scaler)
               for value in (scaler.mean, scaler.std)]  # fmt: skip
    return {"parameters": flat(run.model).tolist(), "steps": run.state.global_step, "scalers": scalers}


def players(cls, processes: int, folder: Path, **settings) -> dict:
    found = Players(processes, folder).train("t5", cls.__name__, cls=cls, **STILL, **settings)
    return {"parameters": found["generator"] + found["discriminator"], "loss": found["log"]["loss"]}


def measure(processes: int, folder: Path) -> dict:
    # Each of them asserts the number of processes.
    measured = {
        "MleTrainer": Runs(processes, folder / "mle").train("rnn_seq2seq", "random", True),
        "RamlTrainer": raml("edit", processes, folder / "raml"),
        "ExpectedRewardTrainer": expected_reward(Fixed, "rnn_seq2seq", processes, folder / "reward", 0.0),
        "DbmTrainer": energy(processes, folder),
        "MatchingTrainer": matching("plain", processes, folder / "matching"),
        "LocalGanTrainer": players(LocalGanTrainer, processes, folder / "localgan"),
        "GanAelTrainer": players(GanAelTrainer, processes, folder / "ael", weight_clip=0.7),
    }
    return {name: {"world_size": processes, **found} for name, found in measured.items()}


if __name__ == "__main__":
    report(measure)
