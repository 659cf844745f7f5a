import torch

from mrm.evaluation.metrics import PreferenceAccuracy


def test_preference_accuracy_counts_ties_as_wrong_over_uneven_batches():
    metric = PreferenceAccuracy()
    metric.update(torch.tensor([1.0, 0.0, -2.0]))
    metric.update(torch.tensor([0.5]))
    assert metric.compute().item() == 0.5  # two of four
    assert metric.ties.item() == 1


def test_preference_accuracy_without_pairs_is_nan():
    metric = PreferenceAccuracy()
    metric.update(torch.empty(0))
    assert metric.compute().isnan()
