"""What learners are fed: shards, mini-batches, preferences, and the schedule of a run."""
