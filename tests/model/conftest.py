import pytest
import torch

from tests.model.worlds import reward_model


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    made = reward_model()
    made.head.layers[-1].weight.data.normal_()  # rewards of order one, so that a tolerance of 1e-4 means something
    return made
