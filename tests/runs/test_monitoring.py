"""Operators see a run: gauges on the node's Prometheus endpoint."""

from __future__ import annotations

import json
import time
from pathlib import Path
from urllib.request import urlopen

import ray
from patience import soon

from prefrec_ray.runs.columns import gauge_name, publish
from prefrec_ray.runs.train import COLUMNS, SCORES

ROW = {"updates": 40, "phase": "train", "losses/qf_loss": 0.125, "values/v_mean": None, "time/data_wait_share": 0.03}


def test_rows_become_gauges(ray_session: None) -> None:
    publish(ROW, "run7", "TD3_BC", "depth")
    (node,) = ray.nodes()
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    limit = time.monotonic() + soon(60)
    while time.monotonic() < limit:
        with urlopen(address, timeout=10) as answer:
            text = answer.read().decode()
        gauges = {line.split("{")[0]: line for line in text.splitlines() if 'run="run7"' in line}
        # Ray adds its own prefix to names of applications.
        if "ray_prefrec_losses_qf_loss" in gauges:
            break
        time.sleep(0.5)
    assert float(gauges["ray_prefrec_losses_qf_loss"].split()[-1]) == 0.125
    assert float(gauges["ray_prefrec_updates"].split()[-1]) == 40
    assert 'method="TD3_BC"' in gauges["ray_prefrec_updates"]
    assert 'task="depth"' in gauges["ray_prefrec_updates"]
    assert not any("phase" in name or "v_mean" in name for name in gauges)


def test_the_dashboard_draws_what_runs_publish() -> None:
    dashboard = json.loads((Path(__file__).parents[2] / "cluster" / "grafana.json").read_text())
    published = {"ray_" + gauge_name(column) for column in (*COLUMNS, *SCORES)}
    drawn = {t["expr"].split("{")[0] for p in dashboard["panels"] for t in p.get("targets", [])}
    drawn = {expression for expression in drawn if expression.startswith("ray_prefrec")}
    assert drawn
    assert drawn <= published
    places = [tuple(panel["gridPos"].values()) for panel in dashboard["panels"]]
    assert len(set(places)) == len(places)
