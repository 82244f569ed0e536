"""The items of `make label-demo`: titles and pictures by embedding, in a file that the page reads."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from examples.label_demo import thumbnail, title_of, write_items
from prefrec_ray.annotation.page.timeline import Items


def test_every_item_has_a_title_and_a_picture(tmp_path: Path) -> None:
    table = SimpleNamespace(ids=np.array(["a", "b"]), embeddings=np.array([[0.9, -0.1], [0.8, -0.2]], np.float32))
    write_items(SimpleNamespace(items=lambda: table), str(tmp_path / "items"))  # type: ignore[arg-type]
    items = Items(str(tmp_path / "items" / "items.csv"), lambda item: "none")
    assert items("a").title == "Street food at night, part 1"
    assert items("b").title == f"{title_of(table.embeddings[1])}, part 2"
    file, kind = items.picture(items("b").picture) or (tmp_path, "")
    assert kind == "image/png"
    assert file.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("width", [1, 2, 8, 40])
def test_similar_items_look_similar(width: int) -> None:
    embedding = np.linspace(1.0, -0.9, width).astype(np.float32)
    pictures = [thumbnail(embedding), thumbnail(0.99 * embedding), thumbnail(-embedding)]
    assert pictures[0].shape == (96, 96, 3)
    assert all(picture.min() >= 0 and picture.max() <= 1 for picture in pictures)
    near, far = (np.abs(pictures[0] - other).mean() for other in pictures[1:])
    assert near < 0.02 < far
    assert title_of(embedding) == title_of(0.99 * embedding) != title_of(-embedding)
