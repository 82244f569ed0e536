"""Column names of a batch, equal to RLlib's, whose import would take seconds in every process that reads."""

OBS, ACTIONS, NEXT_OBS, REWARDS = "obs", "actions", "new_obs", "rewards"
#: Reward labels of the logged transitions, if a batch has them already.
LABELS = "labels"
