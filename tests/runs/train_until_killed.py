"""python train_until_killed.py SETTINGS.json-text DATASET RUN: starts a run or goes on with it; says when it begins."""

import json
import sys

from prefrec_ray import runtime
from prefrec_ray.runs.settings import TrainSettings
from prefrec_ray.runs.train import train

runtime.start_ray()
print("training", flush=True)
train(
    TrainSettings(**json.loads(sys.argv[1])),
    sys.argv[2],
    sys.argv[3],
    resume=True,
    say=lambda line: print(line, flush=True),
)
