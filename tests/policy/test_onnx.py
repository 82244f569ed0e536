"""onnxruntime equals the policy's networks to 1e-5."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from platform_desk import STATE, make_policy

from prefrec_ray.cli.main import run
from prefrec_ray.policy import Policy
from prefrec_ray.policy.networks.actors import DeterministicActor, GaussianActor
from prefrec_ray.policy.networks.candidates import CandidateActor, Perturbation
from prefrec_ray.policy.networks.critic import Critic
from prefrec_ray.policy.networks.expected_feedback import ExpectedFeedback
from prefrec_ray.policy.networks.layers import mlp
from prefrec_ray.policy.networks.q import QFunction
from prefrec_ray.policy.onnx_export import export_onnx

LOW, HIGH = np.float32([-1, -0.5, -1]), np.float32([1, 0.5, 0.25])
PRODUCTS = [[3, 4, 5], [10, 11, 12]]


def q(*hidden: int, products: list[list[int]]) -> QFunction:
    return QFunction.random(STATE.width, 3, hidden, products).requires_grad_(False)


def actor(kind: str) -> DeterministicActor | CandidateActor:
    if kind == "mlp":
        return DeterministicActor(mlp(STATE.width, [16, 8], 3).requires_grad_(False), LOW, HIGH)
    if kind == "gaussian":
        return GaussianActor(mlp(STATE.width, [16], 3), LOW, HIGH, state_deviation=True).requires_grad_(False)
    decoder = DeterministicActor(mlp(STATE.width + 2, [16, 8], 3).requires_grad_(False), LOW, HIGH)
    moves = mlp(STATE.width + 3, [8], 3).requires_grad_(False)
    return CandidateActor(
        decoder,
        Perturbation(moves, LOW, HIGH, np.float32([0.1, 0.2, 0.3])),
        q(16, products=PRODUCTS),
        torch.randn(5, 2),
    )


def run_model(file: Path, **inputs: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (result,) = session.run(None, inputs)
    return result


@settings(max_examples=12)
@given(
    kind=st.sampled_from(["mlp", "gaussian", "candidates"]),
    critics=st.integers(1, 2),
    answers=st.booleans(),
    rescaled=st.booleans(),
    products=st.booleans(),
    hidden=st.sampled_from([(), (16,), (16, 8)]),
    n=st.integers(1, 7),
    seed=st.integers(0, 99),
)
def test_onnx_gives_what_the_policy_gives(
    tmp_path_factory: pytest.TempPathFactory,
    kind: str,
    critics: int,
    answers: bool,
    rescaled: bool,
    products: bool,
    hidden: tuple[int, ...],
    n: int,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    folder = tmp_path_factory.mktemp("onnx") / "files"
    critic = Critic([q(*hidden, products=PRODUCTS if products else []) for _ in range(critics)])
    if answers:
        network = ExpectedFeedback.random(STATE.width, 3, hidden, PRODUCTS, 4).requires_grad_(False)
        critic = replace(critic, answers=network, worth=np.linspace(-1, 1, 4, dtype=np.float32))
        if rescaled:
            scale = np.stack([np.full(STATE.width, 0.5), np.full(STATE.width, 0.1)])
            critic = critic.rescaled(scale.astype(np.float32))
    policy = replace(make_policy(), actor=actor(kind), critic=critic)
    assert export_onnx(policy, str(folder)) == ["actor.onnx", "critic.onnx"]
    rng = np.random.default_rng(seed)
    states = rng.normal(size=(n, STATE.width)).astype(np.float32)
    candidates = rng.uniform(-1, 1, (n, 9, 3)).astype(np.float32)
    with torch.inference_mode():
        expected = policy.actor(torch.from_numpy(states)).numpy()
    actions = run_model(folder / "actor.onnx", states=states)
    np.testing.assert_allclose(actions, expected, atol=1e-5)
    scores = run_model(folder / "critic.onnx", states=states, candidates=candidates)
    np.testing.assert_allclose(scores, policy.scorer.scores(states, candidates), atol=1e-5)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_policy().save(str(tmp_path / "policy"))
    assert run(["export", str(tmp_path / "policy"), "--format", "onnx", "--output", str(tmp_path / "onnx")]) == 0
    assert sorted(file.name for file in (tmp_path / "onnx").iterdir()) == ["actor.onnx", "critic.onnx"]
    policy = Policy.load(str(tmp_path / "policy"))
    states = np.zeros((2, STATE.width), np.float32)
    with torch.inference_mode():
        expected = policy.actor(torch.from_numpy(states)).numpy()
    np.testing.assert_allclose(run_model(tmp_path / "onnx" / "actor.onnx", states=states), expected, atol=1e-5)
    assert run(["export", str(tmp_path / "policy"), "--format", "pdf", "--output", str(tmp_path / "b")]) == 2
    assert "expected one of bundle, onnx" in capsys.readouterr().err
