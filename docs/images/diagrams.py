"""Draws the diagrams of the pages: python docs/images/diagrams.py

timeline.svg: session, transition, segment and level. verdict.svg: the parts of a verdict. training.svg: train and
evaluate on Ray. release.svg: the states of a night's policy. flow.svg is drawn by hand.
"""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

HERE = Path(__file__).parent
FONT = "DejaVu Sans, Segoe UI, Roboto, sans-serif"
GREEN, BLUE, ORANGE, WHITE = "#eef6ec", "#e3f1fa", "#fdf1e3", "#fff"
LINE, INK, PALE = "#888", "#222", "#444"


class Drawing:
    """An SVG image with boxes, lines and texts. Coordinates are in pixels."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-labelledby="t" '
            f'font-family="{FONT}">',
            f'<title id="t">{escape(title)}</title>',
            '<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
            'orient="auto-start-reverse"><path d="M0 0L8 4L0 8z" fill="#555"/></marker></defs>',
            f'<rect width="{width}" height="{height}" rx="10" fill="{WHITE}"/>',
        ]

    def text(self, x: float, y: float, words: str, size: int = 13, bold: bool = False, anchor: str = "middle") -> None:
        """Write one line, centred at x."""
        weight, colour = ("700", INK) if bold else ("400", PALE)
        self._parts.append(
            f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" '
            f'fill="{colour}">{escape(words)}</text>'
        )

    def box(self, x: float, y: float, width: float, height: float, title: str, *lines: str, fill: str = BLUE) -> None:
        """Draw a box with a title and lines below it."""
        self._parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="8" fill="{fill}" stroke="{LINE}"/>'
        )
        top = y + height / 2 - 9 * len(lines) + 5
        self.text(x + width / 2, top, title, 15, bold=True)
        for number, line in enumerate(lines, 1):
            self.text(x + width / 2, top + 18 * number, line)

    def line(self, *points: tuple[float, float], arrow: bool = True, dashed: bool = False) -> None:
        """Draw a line through points, by default with an arrow at its end."""
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        marker = ' marker-end="url(#a)"' if arrow else ""
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self._parts.append(f'<polyline points="{path}" fill="none" stroke="#555" stroke-width="1.6"{marker}{dash}/>')

    def dot(self, x: float, y: float, fill: str = BLUE) -> None:
        """Draw an impression."""
        self._parts.append(f'<circle cx="{x:g}" cy="{y:g}" r="9" fill="{fill}" stroke="{LINE}"/>')

    def brace(self, left: float, right: float, y: float, words: str, below: bool = False) -> None:
        """Draw a bracket over (or below) an interval, with its name."""
        tip = y + 8 if not below else y - 8
        self.line((left, tip), (left, y), (right, y), (right, tip), arrow=False)
        self.text((left + right) / 2, y - 7 if not below else y + 17, words)

    def save(self, name: str) -> None:
        """Write HERE/`name`."""
        (HERE / name).write_text("\n".join([*self._parts, "</svg>", ""]), "utf-8")


def timeline() -> None:
    """One user: impressions, sessions, a transition, a segment and levels."""
    d = Drawing(1000, 266, "Time line of one user: sessions of impressions, a transition, a segment, and levels")
    y = 150
    d.line((30, y), (970, y))
    d.text(965, y + 24, "time", anchor="end")
    sessions = [[60, 100, 140, 180], [400, 440], [640, 680, 720, 760, 800, 840]]
    for session in sessions:
        for x in session:
            d.dot(x, y, ORANGE if x in (100, 140) else BLUE)
    d.text(100, y + 30, "s, a", 13, bold=True)
    d.text(140, y + 30, "s'", 13, bold=True)
    d.text(120, y + 50, "transition (s, a, s')")
    d.brace(48, 192, 108, "session, depth d = 4")
    d.brace(388, 452, 108, "d = 2")
    d.brace(628, 852, 108, "d = 6")
    d.brace(192, 388, 134, "revisit time e", below=False)
    d.brace(452, 628, 134, "e, shorter", below=False)
    d.brace(400, 800, 190, "segment: consecutive impressions of one user, half of a preference", below=True)
    d.text(270, 36, "depth level = min(5, floor(d / mean d))", 15, bold=True)
    d.text(730, 36, "frequency level = min(5, floor(mean e / e))", 15, bold=True)
    d.text(500, 62, "means over all sessions of this user: level 1 is as the user's own mean")
    d.text(170, 244, "s: state vector before the impression")
    d.text(500, 244, "a: embedding of the shown item")
    d.text(810, 244, "s': state vector before the next impression")
    d.save("timeline.svg")


def verdict() -> None:
    """The decision of a verdict, from its checks."""
    d = Drawing(1000, 500, "Parts of a verdict: estimate, tests and controls, and the checks in their order")
    d.box(20, 20, 220, 74, "Log and policy", "logged sessions,", "roll-outs of the policy", fill=GREEN)
    d.box(290, 20, 220, 74, "Model of users", "gain and its interval,", "hours and items")
    d.box(560, 20, 190, 74, "Tests", "disagreement of models,", "back-test, specification")
    d.box(800, 20, 180, 74, "Controls", "gain that chance", "or bias would show")
    d.line((240, 57), (290, 57))
    d.line((510, 57), (560, 57))
    d.line((750, 57), (800, 57))
    questions = [
        ("No estimate, or not converged?", "inconclusive"),
        ("A guard-rail broken, or interval of a gain below 0?", "do not ship"),
        ("Few items, or pages unlike all logged pages?", "inconclusive"),
        ("Interval within the difference that matters?", "no difference"),
        ("Interval contains 0, or a control gains as much?", "inconclusive"),
        ("Large loss in depth or returns, or a rail open?", "inconclusive"),
    ]
    y = 126
    d.line((400, 94), (400, y))
    for number, (question, result) in enumerate(questions):
        top = y + 54 * number
        d.box(150, top, 500, 34, question, fill=WHITE)
        d.line((650, top + 17), (760, top + 17))
        d.text(700, top + 11, "yes")
        d.box(760, top, 160, 34, result, fill=ORANGE)
        d.line((400, top + 34), (400, top + 54))
    d.text(415, y + 54 * len(questions) - 6, "no", anchor="start")
    d.box(275, y + 54 * len(questions), 250, 34, "candidate for an A/B test", fill=GREEN)
    d.save("verdict.svg")


def training() -> None:
    """Train and evaluate on Ray: driver, tasks, learners, object store."""
    d = Drawing(1000, 360, "Train and evaluate on Ray: driver, tasks, learners and the object store")
    d.box(20, 140, 180, 80, "Driver", "prefrec train, tune,", "evaluate: plans only", fill=GREEN)
    d.box(300, 20, 220, 80, "Tasks (Ray)", "read files, label rewards,", "fit models, roll out")
    d.box(300, 250, 220, 80, "Learners (RLlib)", "reward, V, Q, actor;", "gradients averaged")
    d.box(
        620,
        130,
        200,
        100,
        "Object store",
        "shards of transitions,",
        "preferences, models;",
        "one copy per node",
        fill=ORANGE,
    )
    d.box(880, 140, 100, 80, "Storage", "disk, S3,", "GCS", fill=GREEN)
    d.line((200, 165), (300, 80))
    d.line((200, 195), (300, 275))
    d.line((520, 60), (660, 130))
    d.line((660, 230), (520, 290))
    d.line((820, 180), (880, 180), arrow=False)
    d.line((520, 40), (930, 40), (930, 140), dashed=True)
    d.text(725, 32, "reads logs and data sets, writes evaluation.json")
    d.line((520, 315), (930, 315), (930, 220), dashed=True)
    d.text(725, 335, "checkpoints, policy, progress.csv")
    d.text(605, 88, "blocks")
    d.text(605, 282, "batches")
    d.save("training.svg")


def release() -> None:
    """The states of the policy of one night."""
    d = Drawing(1000, 250, "States of the policy of a night: trained, kept or canary, then promoted or withdrawn")
    d.box(20, 60, 190, 74, "Night", "check, prepare, train,", "evaluate: a verdict", fill=GREEN)
    d.box(310, 60, 220, 74, "Canary", "5 % of the users;", "a look each night")
    d.box(670, 20, 310, 60, "Promoted", "the current policy of all users", fill=GREEN)
    d.box(670, 120, 310, 60, "Withdrawn", "never returns", fill=ORANGE)
    d.box(20, 190, 190, 44, "Kept: not released", fill=WHITE)
    d.line((210, 97), (310, 97))
    d.text(260, 88, "candidate")
    d.line((115, 134), (115, 190))
    d.text(122, 168, "other verdict", anchor="start")
    d.line((530, 80), (670, 50))
    d.text(585, 48, "better, limits kept")
    d.line((530, 114), (670, 150))
    d.text(592, 158, "harm, or 28 days")
    d.line((370, 60), (370, 30), (470, 30), (470, 60))
    d.text(420, 22, "extend")
    d.line((825, 80), (825, 120), dashed=True)
    d.text(834, 105, "prefrec rollback", anchor="start")
    d.line((420, 134), (420, 210), (825, 210), (825, 180), dashed=True)
    d.text(620, 228, "prefrec rollback while it is a canary")
    d.save("release.svg")


if __name__ == "__main__":
    release()
    timeline()
    verdict()
    training()
