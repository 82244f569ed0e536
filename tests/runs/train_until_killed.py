"""python train_until_killed.py SETTINGS.json-text DATASET RUN: starts or resumes a run and prints its start."""

import json
import sys

from prefrec_ray import runtime
from prefrec_ray.runs.settings import TrainSettings
from prefrec_ray.runs.train import start_run

runtime.start_ray()
print("training", flush=True)
start_run(
    TrainSettings(**json.loads(sys.argv[1])),
    sys.argv[2],
    sys.argv[3],
    resume=True,
    say=lambda line: print(line, flush=True),
)
