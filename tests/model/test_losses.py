import math

import pytest
import torch

from mrm.errors import ConfigError
from mrm.model.losses import bradley_terry, pair_deltas, shortcut_aware

NAN = float("nan")


def loss(delta, strength, weight=None, **settings):
    weight = [1.0] * len(delta) if weight is None else weight
    return bradley_terry(torch.tensor(delta), torch.tensor(strength), torch.tensor(weight), **settings).tolist()


def softplus(x):
    return math.log1p(math.exp(x))


def test_bradley_terry_without_margin_is_minus_log_sigmoid():
    # -log sigmoid(0) = log 2; -log sigmoid(2) = log(1 + e^-2) = 0.126928; -log sigmoid(-1) = log(1 + e) = 1.313262
    assert loss([0.0, 2.0, -1.0], [0.5, 1.0, NAN]) == pytest.approx([0.693147, 0.126928, 1.313262], abs=1e-5)


def test_bradley_terry_with_shift_subtracts_the_margin_of_known_strengths():
    # delta 2, strength 0.5, scale 2: margin 1, -log sigmoid(1) = 0.313262; unknown strength: no margin
    assert loss([2.0, 2.0], [0.5, NAN], margin="shift", margin_scale=2.0) == pytest.approx(
        [0.313262, 0.126928], abs=1e-5
    )


def test_bradley_terry_with_scale_weights_by_strength_around_one():
    # strength 1: 1 + 0.5 * 1 = 1.5; strength 0: 0.5; strength 0.5 and unknown: 1
    expected = [1.5 * math.log(2), 0.5 * math.log(2), math.log(2), math.log(2)]
    assert loss([0.0] * 4, [1.0, 0.0, 0.5, NAN], margin="scale", margin_scale=1.0) == pytest.approx(expected, abs=1e-6)


def test_bradley_terry_with_label_smoothing_mixes_both_labels():
    # 0.9 * softplus(-1) + 0.1 * softplus(1) = 0.9 * 0.313262 + 0.1 * 1.313262
    assert loss([1.0], [NAN], label_smoothing=0.1) == pytest.approx([0.413262], abs=1e-5)


def test_bradley_terry_weight_zero_costs_nothing():
    assert loss([1.0, -3.0], [NAN, NAN], [0.0, 2.0]) == pytest.approx([0.0, 2 * softplus(3)], abs=1e-5)


def test_bradley_terry_margin_none_ignores_strength():
    assert loss([0.3, 0.3], [0.0, 1.0]) == pytest.approx([softplus(-0.3)] * 2)


def test_bradley_terry_equals_shift_and_scale_of_zero():
    delta, strength = [0.3, -1.2], [0.7, NAN]
    assert loss(delta, strength, margin="shift", margin_scale=0.0) == loss(delta, strength)
    assert loss(delta, strength, margin="scale", margin_scale=0.0) == loss(delta, strength)


def test_bradley_terry_of_half_precision_computes_in_float32():
    assert bradley_terry(torch.ones(1).bfloat16(), torch.ones(1), torch.ones(1)).dtype == torch.float32


def test_bradley_terry_unknown_margin_names_the_known():
    with pytest.raises(ConfigError, match="none, shift, scale"):
        loss([0.0], [0.5], margin="add")


def test_pair_deltas_of_k_responses_follow_the_edges():
    rewards = torch.tensor([1.0, 4.0, 2.5])
    assert pair_deltas(rewards, torch.tensor([1, 2]), torch.tensor([0, 1])).tolist() == [3.0, -1.5]


def test_shortcut_aware_weighs_by_what_the_text_alone_leaves_open():
    # -log sigmoid: of 2 0.126928, of 0 0.693147, of -1 1.313262. Factor 2 l_text / (l_text + l), 1 where both are alike:
    # 2 * 1.313262 / (1.313262 + 0.126928) = 1.823736, and the other way round 0.176264
    delta, text = torch.tensor([0.0, 2.0, -1.0]), torch.tensor([0.0, -1.0, 2.0])
    own, twin = shortcut_aware(
        delta, torch.full((3,), NAN), torch.ones(3), text_delta=text, sees=torch.ones(3, dtype=torch.bool)
    )
    assert own.tolist() == pytest.approx([0.693147, 1.823736 * 0.126928, 0.176264 * 1.313262], abs=1e-5)
    assert twin.tolist() == pytest.approx([0.693147, 1.313262, 0.126928], abs=1e-5)


def test_shortcut_aware_of_pairs_beyond_doubt_is_finite_and_weights_count():
    delta = torch.tensor([400.0, 400.0], requires_grad=True)
    text = torch.tensor([400.0, -400.0], requires_grad=True)
    own, twin = shortcut_aware(delta, torch.ones(2), torch.tensor([1.0, 0.0]), text_delta=text, sees=torch.ones(2) > 0)
    assert own.tolist() == [0.0, 0.0] and twin.tolist() == [0.0, 0.0]
    (own.sum() + twin.sum()).backward()
    assert delta.grad.isfinite().all() and text.grad.isfinite().all()


def test_shortcut_aware_teaches_each_by_its_own_loss():
    delta, text = torch.tensor([0.5], requires_grad=True), torch.tensor([-0.5], requires_grad=True)
    own, twin = shortcut_aware(delta, torch.ones(1), torch.ones(1), text_delta=text, sees=torch.ones(1) > 0)
    assert torch.autograd.grad(own.sum(), [delta, text], allow_unused=True)[1] is None
    assert torch.autograd.grad(twin.sum(), [delta, text], allow_unused=True)[0] is None


def test_shortcut_aware_leaves_pairs_without_an_image_as_they_are():
    delta, text = torch.tensor([2.0, 2.0]), torch.tensor([-1.0, -1.0])
    own, _ = shortcut_aware(delta, torch.ones(2), torch.ones(2), text_delta=text, sees=torch.tensor([True, False]))
    assert own.tolist() == pytest.approx([1.823736 * 0.126928, 0.126928], abs=1e-5)
