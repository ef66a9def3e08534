"""What `test_recipe_launching.py` starts by `accelerate launch`: recipes, one after another, in the same processes.

    accelerate launch --config_file CONFIG launched_recipes.py FOLDER RECIPE [RECIPE ...]

`FOLDER/RECIPE.yaml` holds the settings of a recipe, `FOLDER/RECIPE` is where it writes. Each process leaves the number
of processes that a recipe trained on in `FOLDER/RECIPE-RANK.json`.
"""

import json
import runpy
import sys
from pathlib import Path

import torch
from accelerate import PartialState

RECIPES = Path(__file__).parents[2] / "recipes"


def run(recipe: str, folder: Path):
    sys.argv = [f"{recipe}.py", str(folder / f"{recipe}.yaml"), "--output_dir", str(folder / recipe)]
    try:
        runpy.run_path(str(RECIPES / f"{recipe}.py"), run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise
    state = PartialState()
    told = {"processes": state.num_processes, "device": state.device.type}
    (folder / f"{recipe}-{state.process_index}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    torch.set_num_threads(1)
    place, names = Path(sys.argv[1]), sys.argv[2:]  # a recipe is given words of its own
    for name in names:
        run(name, place)
    torch.distributed.destroy_process_group()
