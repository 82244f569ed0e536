"""Benchmarks of the product: speed against bare loops, peers, truth in simulated worlds, and scale.

`python -m benchmarks [SECTION ...]` runs them; each section writes bench/SECTION.json with the machine's description.
"""
