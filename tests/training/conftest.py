"""What tests of training share."""

import pytest
import torch


@pytest.fixture
def in_double():
    """New tensors are in float64, weights and batches among them."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
