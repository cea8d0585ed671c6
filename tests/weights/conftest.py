"""What tests of this room share."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """Threads wait for each other longer than models so small compute."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)
