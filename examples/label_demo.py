"""Made-up titles and thumbnails for items of a simulated data set: `python examples/label_demo.py DATASET FOLDER`.

Items with similar embeddings get similar titles and pictures. Annotators of a real platform see real ones.
"""

from __future__ import annotations

import colorsys
import sys
from collections import Counter

import numpy as np
from matplotlib import image

from prefrec_ray import storage
from prefrec_ray.dataset import PreparedDataset

#: One topic and one style per direction of an embedding: coordinate 0 up, coordinate 0 down, coordinate 1 up, ...
TOPICS = (
    *("Street food", "Mountain bikes", "Guitar lessons", "City walks", "Cats", "Woodwork", "Football", "Gardening"),
    *("Space", "Baking", "Old films", "Drawing", "Sailing", "Magic tricks", "Robots", "Dance"),
)
STYLES = (
    *("for beginners", "in one minute", "gone wrong", "at night", "on a budget", "step by step", "from above", "live"),
    *("in slow motion", "explained", "with friends", "the final", "around the world", "in winter", "up close", "again"),
)
SIZE = 96


def write_items(dataset: PreparedDataset, folder: str) -> None:
    """Write FOLDER/items.csv and one PNG per item."""
    items = dataset.items()
    storage.make_folder(folder)
    rows, seen = [], Counter[str]()
    for number, (item, embedding) in enumerate(zip(items.ids.tolist(), items.embeddings, strict=True)):
        title, picture = title_of(embedding), f"{number}.png"
        seen[title] += 1
        image.imsave(f"{storage.absolute(folder)}/{picture}", thumbnail(embedding))
        rows.append({"item_id": item, "title": f"{title}, part {seen[title]}", "picture": picture})
    storage.write_csv(storage.join(folder, "items.csv"), rows)


def title_of(embedding: np.ndarray) -> str:
    """Return a title by the two largest coordinates of an embedding, and their signs."""
    topic, style = _directions(embedding)[:2]
    return f"{TOPICS[topic % len(TOPICS)]} {STYLES[style % len(STYLES)]}"


def thumbnail(embedding: np.ndarray) -> np.ndarray:
    """Return a picture, float [SIZE, SIZE, 3]: waves by the coordinates, in the color of the topic."""
    hue = _directions(embedding)[0] % len(TOPICS) / len(TOPICS)
    y, x = np.mgrid[0 : 1 : SIZE * 1j, 0 : 1 : SIZE * 1j]
    angle = np.pi * np.arange(1, len(embedding) + 1)[:, None, None]
    shade = 0.5 + (embedding[:, None, None] * np.sin(angle * (x + y))).mean(axis=0)
    dark, light = (np.array(colorsys.hsv_to_rgb(hue, *tone)) for tone in ((0.9, 0.35), (0.25, 1.0)))
    return np.asarray(dark + np.clip(shade, 0, 1)[..., None] * (light - dark))


def _directions(embedding: np.ndarray) -> list[int]:
    """Return the coordinates, the largest first: twice the number of a coordinate, plus 1 if it is negative."""
    order = np.argsort(-np.abs(embedding), kind="stable")
    directions = [2 * int(i) + int(embedding[i] < 0) for i in order]
    return directions if len(directions) > 1 else directions * 2


if __name__ == "__main__":
    write_items(PreparedDataset.open(storage.absolute(sys.argv[1])), sys.argv[2])
