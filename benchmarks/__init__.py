"""What the product is measured by: speed against bare loops, peers, truth in simulated worlds, and scale.

`python -m benchmarks [SECTION ...]` runs them; each section writes bench/SECTION.json with the machine's description.
"""
