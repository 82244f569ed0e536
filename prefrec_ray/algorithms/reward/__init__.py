"""Reward model (section 4 of the paper): network and scale, update, pre-training, labels with a horizon."""
