"""Training costs little over a bare loop: the guard against a change that makes it slow without anybody noticing.

Both do the same updates one after another, so that a busy machine slows both; the median over the repetitions leaves
out what hit one of them. An attempt may still be unlucky, a slow product is slow in all: one good attempt is enough.
"""

from pathlib import Path

from tiny import write_dataset

from benchmarks.harness import Comparison, interleave
from benchmarks.speed.bare_loop import tuned_prefrec
from benchmarks.speed.training import load_arrays, paper_sizes, prefrec_config, repeated
from prefrec_ray.algorithms.feed.load import load_data

LEAST, ATTEMPTS, UPDATES, REPETITIONS = 0.75, 3, 20, 5
PRODUCT, BARE = "PrefRec", "tuned bare PrefRec"


def test_close_to_the_bare_loop(ray_session: None, tmp_path: Path) -> None:
    write_dataset(tmp_path / "dataset", users=40, requests=120, pairs=64, length=20)
    sizes = paper_sizes((128, 128, 128), transitions=1024, pairs=16)
    config = prefrec_config(str(tmp_path / "dataset"), UPDATES, sizes)
    loaded = load_data(config.data_request)
    algorithm = config.offline_data(loaded_data=loaded).build_algo()
    bare = repeated(tuned_prefrec(load_arrays(str(tmp_path / "dataset"), loaded), sizes), UPDATES)
    ratios = []
    try:
        while len(ratios) < ATTEMPTS and not (ratios and ratios[-1] > LEAST):
            rates = interleave({PRODUCT: algorithm.train, BARE: bare}, UPDATES * sizes.transitions, REPETITIONS)
            (ratio,) = Comparison("", "", rates, ((PRODUCT, BARE),)).ratios().values()
            ratios.append(ratio)
    finally:
        algorithm.stop()
    assert ratios[-1] > LEAST, f"shares of the bare loop's rate: {ratios}"
