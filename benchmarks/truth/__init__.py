"""Whether recipes raise what they should, in worlds whose truth is known: `python -m benchmarks.truth OUTPUT`."""
