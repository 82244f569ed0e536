"""The learned reward (section 4 of the paper): its labels and its state."""
