import numpy as np
import torch

from unfreeze.training import cost
from unfreeze.training.device import Compute

CPU = Compute(torch.device("cpu"), torch.float32, "test")


def test_energy_is_the_sum_of_the_packages_or_none(tmp_path, monkeypatch):
    monkeypatch.setattr(cost, "POWERCAP", tmp_path)
    assert cost.energy_counter(CPU) is None
    # A package's parts are counted in it.
    for name, microjoules in (("intel-rapl:0", 1_500_000), ("intel-rapl:1", 500_000), ("intel-rapl:0:0", 700_000)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text(f"{microjoules}\n")
    assert cost.energy_counter(CPU) == 2.0
    (tmp_path / "intel-rapl:1" / "energy_uj").unlink()
    assert cost.energy_counter(CPU) is None


def test_saved_bytes_are_what_backward_needs_and_no_parameter():
    weight, x = torch.randn(7, 5, requires_grad=True), torch.randn(3, 7)
    found = []
    with cost.count_saved_bytes([weight], found):
        torch.tanh(x @ weight).sum().backward()
    assert found == [4 * (3 * 7 + 3 * 5)]  # the product's input and tanh's output


def test_phases_add_up_by_name():
    phases, seconds = cost.Phases(CPU), {}
    for _ in range(3):
        for name in ("forward", "backward", None):
            phases.mark(name)
    phases.collect(seconds)
    assert set(seconds) == {"forward", "backward"}
    before = dict(seconds)
    phases.collect(seconds)
    assert seconds == before, "nothing is counted twice"


def test_flops_of_three_lengths_tell_those_of_every_other():
    weight, lengths, done = torch.randn(7, 5), np.array([2, 3, 4, 5, 6, 7, 8, 9]), []

    def step(batch):
        """A linear map of every token, and every token's product with every other."""
        done.append(len(batch))
        states = torch.randn(len(batch), int(lengths[batch].max()), 7)
        return (states @ weight) @ (states @ weight).transpose(1, 2)

    batches = [np.array([index]) for index in range(8)] + [np.array([0, 7, 1])]
    counted = cost.StepFlops.count(step, batches, lengths)
    assert len(done) == 3
    expected = []
    for batch in batches:
        with cost.count_flops(expected):
            step(batch)
    np.testing.assert_allclose(counted.of(batches, lengths), expected)
    same = cost.StepFlops.count(step, [np.array([3, 3])], lengths)
    assert same.coefficients == (expected[3],)
