"""Input of the learners: shards, mini-batches, preferences, and the schedule of a run."""
