"""The reward model (section 4 of the paper): network and scale, update, pre-training, labels that look ahead."""
