import io

from rich.console import Console

from prefrec_ray.cli.summary import summary


def line(subject: str, role: str, value: float, estimator: str, task: str = "depth") -> dict:
    return {
        "subject": subject,
        "role": role,
        "value": value,
        "ci_low": value - 0.1,
        "ci_high": value + 0.1,
        "behaviour": 0.9,
        "estimator": estimator,
        "task": task,
    }


def printed(records: list[dict]) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=100).print(summary(records, "depth"))
    return [" ".join(text.split()) for text in out.getvalue().splitlines()]


def test_true_levels_come_first_best_first_and_ncis_beside_them() -> None:
    records = [
        line("behaviour", "control", 1.0, "online"),
        line("robust", "policy", 3.0, "online"),
        line("robust", "policy", 1.2, "ncis"),
        line("shuffled:robust", "placebo", 1.1, "ncis"),
        line("robust", "policy", 9.0, "online", task="mixture"),
    ]
    assert printed(records) == [
        "depth level true, with 95 % interval NCIS kind",
        "robust 3.00 [2.90, 3.10] 1.20 [1.10, 1.30] policy",
        "behaviour 1.00 [0.90, 1.10] 0.90 control",
    ]


def test_without_roll_outs_ncis_orders_the_table() -> None:
    records = [line("imitation", "control", 1.0, "ncis"), line("robust", "policy", 1.2, "ncis")]
    assert printed(records) == [
        "depth level NCIS kind",
        "robust 1.20 [1.10, 1.30] policy",
        "imitation 1.00 [0.90, 1.10] control",
    ]


def test_each_estimator_has_a_column_and_what_it_lacks_is_empty() -> None:
    records = [
        line("robust", "policy", 1.2, "ncis"),
        line("robust", "policy", 3.0, "fqe"),
        line("robust", "policy", 2.0, "dr"),
        line("imitation", "control", 1.1, "dr"),
    ]
    assert printed(records) == [
        "depth level doubly robust fitted-Q NCIS kind",
        "robust 2.00 [1.90, 2.10] 3.00 [2.90, 3.10] 1.20 [1.10, 1.30] policy",
        "imitation 1.10 [1.00, 1.20] control",
    ]
