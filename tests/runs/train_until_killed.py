"""python train_until_killed.py SETTINGS.json-text DATASET RUN: starts or resumes a run and prints its start."""

import json
import os
import sys

import ray

from prefrec_ray import runtime
from prefrec_ray.runs.settings import TrainSettings
from prefrec_ray.runs.train import start_run

# `start_ray` would first try the address in another process (tests/runtime/test_start.py).
ray.init(os.environ["RAY_ADDRESS"], log_to_driver=False)
runtime.start_ray()
print("training", flush=True)
start_run(
    TrainSettings(**json.loads(sys.argv[1])),
    sys.argv[2],
    sys.argv[3],
    resume=True,
    say=lambda line: print(line, flush=True),
)
