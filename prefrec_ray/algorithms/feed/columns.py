"""The columns of a batch, by RLlib's names: importing RLlib for them takes seconds in every process that reads."""

OBS, ACTIONS, NEXT_OBS, REWARDS = "obs", "actions", "new_obs", "rewards"
#: Reward labels that a batch has already, of transitions as they were logged.
LABELS = "labels"
