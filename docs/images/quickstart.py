"""Draws the README's picture from a finished quickstart: python docs/images/quickstart.py [quickstart]"""

import sys
from pathlib import Path

from prefrec_ray.reports import figures
from prefrec_ray.reports.load import load_evaluation

folder = sys.argv[1] if len(sys.argv) > 1 else "quickstart"
records = load_evaluation([f"{folder}/runs"], []).select("frequency", "online")
records.sort(key=lambda record: -record.value)
unit = "visiting frequency level (1: as often as in the log), 95 % interval over users"
figure = figures.forest(records, "How often users come back, policy by policy", unit)
figure.savefig(Path(__file__).with_suffix(".png"), dpi=130, bbox_inches="tight")
