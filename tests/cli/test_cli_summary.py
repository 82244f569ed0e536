import io

from made_records import made_record
from rich.console import Console

from prefrec_ray.cli.verdicts import summary
from prefrec_ray.evaluation.results.records import Evaluation, Record


def line(subject: str, role: str, value: float, estimator: str, task: str = "depth") -> Record:
    return made_record(subject, value, role, behaviour=0.9, estimator=estimator, task=task)


def printed(records: list[Record]) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=100).print(summary(Evaluation(records=records), "depth"))
    return [" ".join(text.split()) for text in out.getvalue().splitlines()]


def test_true_levels_come_first_best_first_and_ncis_beside_them() -> None:
    records = [
        line("behaviour", "control", 1.0, "online"),
        line("robust", "policy", 3.0, "online"),
        line("robust", "policy", 1.2, "ncis"),
        line("shuffled:robust", "placebo", 1.1, "ncis"),
        line("robust", "policy", 4.0, "online", task="mixture"),
    ]
    assert printed(records) == [
        "depth level true, with 95 % interval NCIS kind",
        "robust 3.00 [2.90, 3.10] 1.20 [1.10, 1.30] policy",
        "logging policy 1.00 [0.90, 1.10] 0.90 control",
    ]


def test_without_roll_outs_ncis_orders_the_table() -> None:
    records = [line("imitation", "control", 1.0, "ncis"), line("robust", "policy", 1.2, "ncis")]
    assert printed(records) == [
        "depth level NCIS kind",
        "robust 1.20 [1.10, 1.30] policy",
        "behavior cloning 1.00 [0.90, 1.10] control",
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
        "behavior cloning 1.10 [1.00, 1.20] control",
    ]


def test_who_has_no_record_of_the_first_estimator_comes_last() -> None:
    records = [line("robust", "policy", 1.2, "model"), line("random items", "placebo", 2.0, "ncis")]
    assert printed(records) == [
        "depth level model of users NCIS kind",
        "robust 1.20 [1.10, 1.30] policy",
        "random items 2.00 [1.90, 2.10] negative control",
    ]


def test_a_name_in_brackets_is_printed_as_it_is() -> None:
    assert printed([line("runs/[/b]/policy", "policy", 1.2, "ncis")])[1] == "runs/[/b]/policy 1.20 [1.10, 1.30] policy"
