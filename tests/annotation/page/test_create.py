"""Reading of the written questions. tests/annotation has the store of a real data set."""

import json
from pathlib import Path

from prefrec_ray.annotation.page.create import _signals


def test_ids_may_hold_any_character(tmp_path: Path) -> None:
    request = {"item": "a\u2028b\x85c", "feedback": {"click": 1.0, "like": 0.0, "watch": 0.5}}
    pair = {"segments": [[{"requests": [request]}], [{"requests": [request]}]]}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(pair, ensure_ascii=False) + "\n", "utf-8")
    assert _signals(str(tmp_path), ["click", "like", "watch"]) == ["like", "click"]
