"""The linear-chain CRF equals brute force and pytorch-crf; padding, batch, precision and autocast change nothing."""

from __future__ import annotations

import pytest
import torch
from brute_crf import BruteForceCRF, ragged_cases, randomise
from made_cores import saved_bytes
from made_crfs import CLOSE, LENGTHS, emissions, make, random_labels, scores_of
from torch import Tensor
from torchcrf import CRF as TorchCRF

from pipeline.models.crf.crf import CRF
from pipeline.models.crf.fixed_lag import FixedLagViterbi
from pipeline.models.crf.forward_backward import _log_space_recursion, _scaled_recursion, forward_backward
from pipeline.padded import Padded, stack

LONG = ((10_000, 2000.0), (7_001, -3000.0), (17, 0.0))
"""Steps of a long row, and what is added to all of its emissions."""


def test_all_ragged_cases_up_to_5_steps_and_4_labels_equal_brute_force():
    for seed, num_labels, x in ragged_cases(5, 4, seeds=3):
        crf = CRF(num_labels).double()
        randomise(crf, 1 + seed)
        labels = random_labels(x)
        values, posterior, best = crf.log_likelihood(x, labels), crf.marginals(x), crf.decode(x)
        gradients = torch.autograd.grad(values.sum(), list(crf.parameters()))
        expected = []
        for row, data in enumerate(x.unpad()):
            n = len(data)
            brute = BruteForceCRF(data, *scores_of(crf))
            expected.append(brute.log_likelihood(labels[row, :n].tolist()))
            torch.testing.assert_close(values[row], expected[-1], **CLOSE)
            torch.testing.assert_close(posterior[row, :n], brute.marginals().detach(), **CLOSE)
            assert (posterior[row, n:] == 0).all() and (best.data[row, n:] == 0).all()
            assert tuple(best.unpad()[row].tolist()) == brute.best()
        by_hand = torch.autograd.grad(torch.stack(expected).sum(), list(crf.parameters()))
        torch.testing.assert_close(gradients, by_hand, **CLOSE)


@pytest.mark.parametrize(("num_steps", "num_labels"), [(1, 1), (1, 5), (40, 3), (17, 20)])
def test_equals_pytorch_crf_in_float64_with_the_same_state_dict(num_steps, num_labels):
    crf, oracle = make(num_labels), TorchCRF(num_labels, batch_first=True).double()
    oracle.load_state_dict(crf.state_dict())
    x = emissions(num_labels, (num_steps, max(1, num_steps // 2), 1, num_steps), filler=0.0)
    labels = torch.where(x.mask, random_labels(x), 0)
    ours, theirs = x.data.clone().requires_grad_(), x.data.clone().requires_grad_()
    values = crf.log_likelihood(Padded(ours, x.lengths), labels)
    expected = oracle(theirs, labels, x.mask, reduction="none")
    torch.testing.assert_close(values, expected, **CLOSE)
    weights = torch.rand(len(values), dtype=torch.float64)
    (values * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, **CLOSE)
    for name, parameter in oracle.named_parameters():
        expected = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad  # unused at T = 1
        torch.testing.assert_close(crf.get_parameter(name).grad, expected, **CLOSE)
    assert [r.tolist() for r in crf.decode(x).unpad()] == oracle.decode(x.data, x.mask)


def test_the_gradient_equals_finite_differences():
    crf, x = make(3), emissions(3, (4, 2, 0, 1), filler=0.0)
    labels = random_labels(x)

    def likelihood(data: Tensor, *parameters: Tensor) -> Tensor:
        names = [n for n, _ in crf.named_parameters()]
        settings = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(Likelihood(crf), {f"crf.{n}": p for n, p in settings.items()}, (data,))

    class Likelihood(torch.nn.Module):
        def __init__(self, crf: CRF) -> None:
            super().__init__()
            self.crf = crf

        def forward(self, data: Tensor) -> Tensor:
            return self.crf.log_likelihood(Padded(data, x.lengths), labels)

    inputs = [x.data.clone().requires_grad_(), *(p.detach().clone().requires_grad_() for p in crf.parameters())]
    assert torch.autograd.gradcheck(likelihood, inputs)


@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), 1e30])
@pytest.mark.parametrize("minimum", [1, 2])
def test_garbage_in_the_padding_changes_neither_values_nor_gradients(garbage, minimum):
    crf, clean, results = make(4, min_steps=minimum), emissions(filler=0.0), []
    torch.manual_seed(5)
    labels = random_labels(clean)
    for filler in (0.0, garbage):
        data = torch.where(clean.mask[:, :, None], clean.data, filler).requires_grad_()
        x = Padded(data, clean.lengths)
        crf.zero_grad()
        value = crf.log_likelihood(x, labels)
        value.sum().backward()
        decoder = FixedLagViterbi(crf, 2)
        memory, committed = decoder.observe(decoder.begin(len(LENGTHS)), x)
        gradients = [data.grad, *(p.grad for p in crf.parameters())]
        decoded = [crf.marginals(x), crf.decode(x).data, *memory, committed.data]
        results.append([value.detach(), *gradients, *decoded])
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)
    assert (results[1][1][~clean.mask] == 0).all() and results[1][1].abs().sum() > 0


def test_a_row_does_not_depend_on_its_batch():
    crf, x = make(4), emissions()
    labels = random_labels(x)
    together, posterior, best = crf.log_likelihood(x, labels), crf.marginals(x), crf.decode(x).unpad()
    for row, data in enumerate(x.unpad()):
        single = stack([data])
        row_labels = labels[row : row + 1, : single.data.shape[1]]
        torch.testing.assert_close(crf.log_likelihood(single, row_labels)[0], together[row], **CLOSE)
        torch.testing.assert_close(crf.marginals(single)[0, : len(data)], posterior[row, : len(data)], **CLOSE)
        assert torch.equal(crf.decode(single).unpad()[0], best[row])


def test_length_0_and_zero_steps():
    crf = make(4)
    for steps in (0, 3):
        x = Padded(torch.full((2, steps, 4), float("nan"), requires_grad=True), torch.zeros(2, dtype=torch.int64))
        value = crf.log_likelihood(x, torch.full((2, steps), -100))
        value.sum().backward()
        assert (value == 0).all() and (x.data.grad == 0).all()
        assert (crf.marginals(x) == 0).all() and crf.marginals(x).shape == (2, steps, 4)
        assert crf.decode(x).data.shape == (2, steps) and crf.decode(x).data.dtype == torch.int64
        decoder = FixedLagViterbi(crf, 2)
        memory, committed = decoder.observe(decoder.begin(2), x)
        assert committed.lengths.tolist() == decoder.finish(memory).lengths.tolist() == [0, 0]


CONTRADICTIONS = {
    "emissions against the only path": {"allowed": torch.eye(3, dtype=torch.bool)},
    "emissions against the last label": {"allowed_end": torch.tensor([False, False, True])},
    "left to right": {
        "allowed": torch.ones(3, 3).triu().bool(),
        "allowed_start": torch.tensor([True, False, False]),
        "allowed_end": torch.tensor([False, False, True]),
    },
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_emissions_against_constraints_do_not_underflow(name, dtype):
    """Scores beyond the range of exp: the scaled recursion underflows, and the result must be right nevertheless."""
    rules = CONTRADICTIONS[name]
    crf = make(3, **rules).to(dtype)
    x = emissions(3, (5, 4, 3, 0), scale=400.0 if dtype == torch.float32 else 3000.0).map(lambda d: d.to(dtype))
    posterior, best = crf.marginals(x), crf.decode(x)
    labels = best.data
    data = x.data.clone().requires_grad_()
    value = crf.log_likelihood(Padded(data, x.lengths), labels)
    value.sum().backward()
    transitions = torch.stack([scores_of(crf)[0].double()])[0]
    for row, values in enumerate(x.unpad()):
        n = len(values)
        brute = BruteForceCRF(values.double(), transitions, *(s.double() for s in scores_of(crf)[1:]), **rules)
        close = {"rtol": 1e-5, "atol": 2e-3} if dtype == torch.float32 else CLOSE
        expected = brute.log_likelihood(labels[row, :n].tolist())
        torch.testing.assert_close(value[row].double(), expected, **close)
        torch.testing.assert_close(posterior[row, :n].double(), brute.marginals().detach(), **close)
        assert tuple(labels[row, :n].tolist()) == brute.best()
    assert data.grad is not None and data.grad.isfinite().all()


def test_the_scaled_and_the_log_space_recursion_agree_or_the_row_is_unsafe():
    crf, x = make(4), emissions(filler=0.0)
    scores = [s.detach() for s in scores_of(crf)]
    scaled, is_safe = _scaled_recursion(x, *scores)
    assert is_safe.all()
    for ours, theirs in zip(scaled, _log_space_recursion(x, *scores), strict=True):
        torch.testing.assert_close(ours, theirs, **CLOSE)
    separated = [torch.full((4, 4), -5000.0, dtype=torch.float64).fill_diagonal_(0.0), *scores[1:]]
    data = x.data.clone()
    data[0, :3] = torch.tensor([5000.0, 0.0, 0.0, 0.0])
    data[0, 3:] = torch.tensor([0.0, 5000.0, 0.0, 0.0])
    contradiction = Padded(data, x.lengths)
    _, is_safe = _scaled_recursion(contradiction, *separated)
    assert not is_safe[0]
    exact = _log_space_recursion(contradiction, *separated)
    for ours, theirs in zip(forward_backward(contradiction, *separated), exact, strict=True):
        torch.testing.assert_close(ours, theirs, **CLOSE)


RULES = {
    "transitions": {"allowed": torch.tensor([[1, 1, 0], [0, 1, 1], [1, 0, 0]]).bool()},
    "start": {"allowed_start": torch.tensor([False, True, False])},
    "end": {"allowed_end": torch.tensor([True, False, True])},
    "all": {
        "allowed": torch.tensor([[1, 1, 0], [0, 1, 1], [1, 0, 1]]).bool(),
        "allowed_start": torch.tensor([True, True, False]),
        "allowed_end": torch.tensor([True, False, True]),
    },
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("seed", range(5))
def test_constraints_equal_brute_force_over_the_legal_paths(rule, seed):
    crf, x = make(3, **RULES[rule]), emissions(3, (6, 2, 4, 0, 5), seed=seed)
    best, posterior = crf.decode(x), crf.marginals(x)
    labels = best.data
    value = crf.log_likelihood(x, labels)
    expected = []
    for row, data in enumerate(x.unpad()):
        brute = BruteForceCRF(data, *scores_of(crf), **RULES[rule])
        expected.append(brute.log_likelihood(brute.best()))
        assert tuple(best.unpad()[row].tolist()) == brute.best()
        torch.testing.assert_close(posterior[row, : len(data)], brute.marginals().detach(), **CLOSE)
    torch.testing.assert_close(value, torch.stack(expected), **CLOSE)
    torch.testing.assert_close(
        torch.autograd.grad(value.sum(), list(crf.parameters())),
        torch.autograd.grad(torch.stack(expected).sum(), list(crf.parameters())),
        **CLOSE,
    )


def test_without_a_legal_path_the_result_has_the_fewest_violations_and_is_finite():
    only_change = ~torch.eye(3, dtype=torch.bool)
    crf = make(3, allowed=only_change, min_steps=3)  # a segment must last 3 steps and must change at each
    x = emissions(3, (6, 2))
    assert [len(set(r.tolist())) <= 2 for r in crf.decode(x).unpad()] == [True, True]
    narrow = make(3, allowed_start=torch.tensor([1, 0, 0]).bool(), allowed_end=torch.tensor([0, 0, 1]).bool())
    assert narrow.decode(emissions(3, (1,))).data[0, 0] in (0, 2)
    data = emissions(3, (1, 4)).data.nan_to_num().requires_grad_()
    value = narrow.log_likelihood(Padded(data, torch.tensor([1, 4])), torch.ones(2, 4, dtype=torch.int64))
    value.sum().backward()
    assert data.grad is not None and (value < -1e5).all()
    assert all(g.isfinite().all() for g in (value, data.grad, narrow.marginals(emissions(3, (1, 4)))))


@pytest.mark.parametrize("minimum", [2, 3, 4, 9])
@pytest.mark.parametrize("num_labels", [1, 2, 3])
def test_the_minimum_duration_equals_brute_force_over_the_legal_paths(minimum, num_labels):
    for seed in range(4):
        crf = make(num_labels, min_steps=minimum)
        x = emissions(num_labels, (7, 0, 3, 1, 6, 2, 4), seed=seed)
        for data, path in zip(x.unpad(), crf.decode(x).unpad(), strict=True):
            assert tuple(path.tolist()) == BruteForceCRF(data, *scores_of(crf), min_steps=minimum).best()


@pytest.mark.parametrize("seed", range(6))
def test_minimum_duration_and_constraints_together_equal_brute_force(seed):
    rules = {
        "allowed": torch.tensor([[1, 1, 0], [0, 1, 1], [1, 0, 1]]).bool(),
        "allowed_start": torch.tensor([True, True, False]),
        "min_steps": 2,
    }
    crf, x = make(3, **rules), emissions(3, (7, 5, 2, 1), seed=seed)
    for data, path in zip(x.unpad(), crf.decode(x).unpad(), strict=True):
        assert tuple(path.tolist()) == BruteForceCRF(data, *scores_of(crf), **rules).best()


@pytest.mark.parametrize("minimum", [1, 3])
def test_a_long_path_in_float32_equals_that_in_float64(minimum):
    """All scores are multiples of 1/8, so float32 is exact while they stay small, and ties fall alike. Without a
    normalisation they would grow to 20 millions, where float32 knows whole pairs only."""
    crf = make(4, min_steps=minimum)
    with torch.no_grad():
        for parameter in crf.parameters():
            parameter.copy_((8 * parameter).round() / 8)
    torch.manual_seed(0)
    x = stack([(8 * torch.randn(n, 4, dtype=torch.float64)).round() / 8 + offset for n, offset in LONG])
    expected = crf.decode(x)
    found = crf.float().decode(x.map(Tensor.float))
    assert torch.equal(found.data, expected.data)
    assert all(len(row.unique()) == 4 for row in found.unpad()[:2])


def test_likelihood_and_marginals_ignore_the_minimum_duration():
    plain, minimum, x = make(4), make(4, min_steps=3), emissions()
    labels = random_labels(x)
    assert torch.equal(plain.log_likelihood(x, labels), minimum.log_likelihood(x, labels))
    assert torch.equal(plain.marginals(x), minimum.marginals(x))


def test_a_new_field_is_a_softmax_per_step():
    crf, x = CRF(4).double(), emissions()
    torch.testing.assert_close(crf.marginals(x)[x.mask], x.data.softmax(2)[x.mask], **CLOSE)
    assert torch.equal(crf.decode(x).data[x.mask], x.data.argmax(2)[x.mask])


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_marginals_are_the_gradient_of_log_z_in_every_gradient_mode(mode):
    crf, x = make(4), emissions(filler=0.0)
    data = x.data.clone().requires_grad_()
    labels = torch.zeros(x.data.shape[:2], dtype=torch.int64)
    crf.log_likelihood(Padded(data, x.lengths), labels).sum().backward()
    one_hot = torch.nn.functional.one_hot(labels, 4) * x.mask[:, :, None]
    with mode():
        posterior = crf.marginals(x)
        torch.testing.assert_close(posterior, one_hot - data.grad, **CLOSE)
        assert not posterior.requires_grad
        assert crf.log_likelihood(x, labels).isfinite().all() and crf.decode(x).data.shape == (5, 6)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_and_autocast_give_float32(half):
    crf = CRF(4)
    randomise(crf)
    x = emissions(filler=0.0).map(lambda d: d.to(half))
    labels = random_labels(x)
    exact = x.map(lambda d: d.float())
    for under in (True, False):
        data = x.data.clone().requires_grad_()
        with torch.autocast("cpu", half, enabled=under):
            value = crf.log_likelihood(Padded(data, x.lengths), labels)
            value.sum().backward()
            posterior, best = crf.marginals(x), crf.decode(x)
        assert value.dtype == posterior.dtype == crf.transitions.grad.dtype == torch.float32
        assert torch.equal(value, crf.log_likelihood(exact, labels))
        assert torch.equal(posterior, crf.marginals(exact)) and torch.equal(best.data, crf.decode(exact).data)
        assert FixedLagViterbi(crf, 1).begin(2).scores.dtype == torch.float32
    assert crf.log_likelihood(emissions(filler=0.0), labels).dtype == torch.float64


def test_all_tensors_are_on_the_device_of_the_weights():
    """On the meta device an operation fails if one of its tensors is on another device."""
    for minimum in (1, 3):
        crf = CRF(3, min_steps=minimum, **RULES["all"]).to("meta")
        x = Padded(torch.empty(3, 5, 3, device="meta", requires_grad=True), torch.tensor([5, 0, 2]))
        value = crf.log_likelihood(x, torch.empty(3, 5, dtype=torch.int64, device="meta"))
        value.sum().backward()
        decoder = FixedLagViterbi(crf, 2)
        memory, committed = decoder.observe(decoder.begin(3), x)
        gradients = (x.data.grad, *(p.grad for p in crf.parameters()))
        decoded = (crf.marginals(x), crf.decode(x).data, committed.data, decoder.pending(memory).data)
        tensors = (value, *gradients, *decoded, memory.scores, memory.paths, decoder.finish(memory).data)
        assert {t.device.type for t in tensors} == {"meta"}


def test_the_memory_of_the_likelihood_grows_with_its_steps_and_no_faster():
    kept = []
    for steps in (256, 4096):
        crf, x = make(3), torch.randn(2, steps, 3, dtype=torch.float64, requires_grad=True)
        labels = torch.zeros(2, steps, dtype=torch.int64)
        padded = Padded(x, torch.tensor([steps, steps // 2]))
        kept.append(saved_bytes(lambda: crf.log_likelihood(padded, labels)) / x.nbytes)  # noqa: B023
    assert kept[1] <= 1.01 * kept[0] and kept[1] <= 4, "in tensors (B, T, C)"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_labels": 0}, "num_labels of the CRF is 0. It must be at least 1"),
        ({"num_labels": 3, "min_steps": 0}, "min_steps is 0. A segment has at least 1 step"),
        (
            {"num_labels": 3, "allowed": torch.ones(2, 3)},
            r"allowed has the shape \(2, 3\). With 3 labels it must be \(3, 3\)",
        ),
        ({"num_labels": 3, "allowed_end": torch.zeros(3)}, "allowed_end allows nothing. At least one entry"),
    ],
)
def test_invalid_arguments_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        CRF(**settings)
