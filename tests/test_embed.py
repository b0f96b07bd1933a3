import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from conftest import FAMILIES
from unfreeze.training.device import choose_compute
from unfreeze.training.embed import embed

TEXTS = ["the man sleeps", "a", "two red cat runs outside the blue dog plays", "nobody is inside"]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_mean_is_over_each_texts_own_tokens(tiny, family):
    """Each text alone through transformers' own encoder, where there is no padding to leave out."""
    folder = tiny(family)
    found = embed(folder, TEXTS, 32, choose_compute("cpu", "fp32"))
    encoder, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        alone = [encoder(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(dim=0) for text in TEXTS]
    assert found.dtype == np.float32
    assert np.abs(found - torch.stack(alone).numpy()).max() < 1e-5


def test_long_texts_are_truncated(tiny):
    compute = choose_compute("cpu", "fp32")
    whole, cut = ("the man sleeps outside", "the man")  # [CLS] the man [SEP] fill four places
    assert np.allclose(*embed(tiny(), [whole, cut], 4, compute), atol=1e-6)
    assert not np.allclose(*embed(tiny(), [whole, cut], 8, compute), atol=1e-3)
