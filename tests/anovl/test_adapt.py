"""Test-time adaptation: by hand, one by one against batched, and in any mode."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from anovl.adapt import adapt, apply_adapter, tta_loss
from anovl.maps import anomalous_probability
from anovl.prompts import TextFeatures

D, P = 8, 6


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def text():
    prompts = F.normalize(rand(P, D, seed=1), dim=1)
    return TextFeatures(prompts[[0, -1]], prompts, torch.arange(P) >= P // 2)


@pytest.fixture
def patches():
    return rand(4, 3, 2, D, seed=2)


# The two short functions, by hand


def test_the_text_adapter_by_hand():
    patch, weight, bias = torch.tensor([0.0, 2.0]), torch.tensor([[0.0, 3.0]]), torch.tensor([-1.0])
    prompts = torch.tensor([[0.6, 0.8]])
    out = apply_adapter(patch[None, None], weight[None], bias[None], prompts)
    # W x/|x| + b = 3 - 1 = 2, so x' = (0, 1) + tanh(2)/2 · (0.6, 0.8)
    expected = torch.tensor([0.3, 0.4]) * math.tanh(2) + torch.tensor([0.0, 1.0])
    torch.testing.assert_close(out[0, 0], expected)


def test_the_linear_adapter_by_hand():
    patch, weight, bias = torch.tensor([0.0, 2.0]), torch.tensor([[0.0, 3], [1, 0]]), rand(2)
    out = apply_adapter(patch[None, None], weight[None], bias[None])
    torch.testing.assert_close(out[0, 0], torch.tensor([1.5, 1.0]) + bias / 2)


def test_each_image_goes_through_its_own_adapter(patches, text):
    weight, bias = rand(4, P, D), rand(4, P)
    together = apply_adapter(patches, weight, bias, text.prompts)
    for i in range(4):
        alone = apply_adapter(patches[i : i + 1], weight[i, None], bias[i, None], text.prompts)
        torch.testing.assert_close(together[i : i + 1], alone)


def test_the_loss_by_hand():
    clean, noisy = torch.tensor([[0.2, 0.5]]), torch.tensor([[0.4, 0.4]])
    entropy, noise, normal, total = (term.item() for term in tta_loss(clean, noisy))
    entropy_of_fifth = -0.2 * math.log(0.2) - 0.8 * math.log(0.8)
    assert entropy == pytest.approx((entropy_of_fifth + math.log(2)) / 2)
    assert noise == pytest.approx(-math.log(0.4))
    assert normal == pytest.approx(-(math.log(0.8) + math.log(0.5)) / 2)
    assert total == pytest.approx(entropy + (noise + normal) / 2)


@pytest.mark.parametrize(
    ("terms", "parts"),
    [
        (("entropy",), (1, 0, 0)),
        (("noisy", "clean"), (0, 0.5, 0.5)),
        (["clean"], (0, 0, 0.5)),
        ({"entropy", "noisy", "clean"}, (1, 0.5, 0.5)),
    ],
)
def test_terms_can_be_left_out_of_the_total_only(terms, parts):
    clean, noisy = torch.tensor([[0.2, 0.5]]), torch.tensor([[0.4, 0.4]])
    *all_terms, total = tta_loss(clean, noisy, terms=terms)
    torch.testing.assert_close(all_terms, list(tta_loss(clean, noisy)[:3]))
    expected = sum(part * term for part, term in zip(parts, all_terms, strict=True))
    torch.testing.assert_close(total, expected)


def test_other_terms_lead_elsewhere(patches, text):
    _, trace = adapt(patches, text, terms=("clean",), lr=1e-2, return_trace=True)
    torch.testing.assert_close(trace.total, trace.clean / 2)
    assert (trace.clean[:, -1] < trace.clean[:, 0]).all()
    assert (trace.entropy > 0).all()
    assert torch.equal(
        adapt(patches, text, terms=("entropy", "noisy", "clean")), adapt(patches, text)
    )


def test_the_first_step_of_adamw_by_hand(text):
    """A first step moves every weight by lr, against the sign of its gradient, plus decay."""
    patches, noise = rand(1, 5, D), 0.1 * rand(1, 1, 5, D, seed=3)
    weight, bias = rand(1, P, D, seed=4).requires_grad_(), rand(1, P, seed=5).requires_grad_()
    values = [
        anomalous_probability(apply_adapter(tokens, weight, bias, text.prompts), text)
        for tokens in (patches, patches + noise[:, 0])
    ]
    tta_loss(*values)[-1].sum().backward()
    stepped = [(p * (1 - 1e-3 * 0.01) - 1e-3 * p.grad.sign()).detach() for p in (weight, bias)]
    expected = apply_adapter(patches, *stepped, text.prompts)
    init = (weight.detach(), bias.detach())
    adapted = adapt(patches, text, steps=1, noise=noise, init=init)
    torch.testing.assert_close(adapted, expected, rtol=0, atol=1e-6)


# Independence and determinism


@pytest.mark.parametrize("adapter", ["text", "linear"])
@pytest.mark.parametrize("reset_optimizer", [True, False])
def test_a_seed_decides_everything(patches, text, adapter, reset_optimizer):
    options = {"adapter": adapter, "reset_optimizer": reset_optimizer}
    first = adapt(patches, text, seed=3, **options)
    torch.manual_seed(99)
    assert torch.equal(first, adapt(patches, text, seed=3, **options))
    assert not torch.allclose(first, adapt(patches, text, seed=4, **options), atol=1e-3)
    assert first.shape == patches.shape


@pytest.mark.parametrize("adapter", ["text", "linear"])
def test_one_by_one_is_as_batched_in_any_order(patches, text, adapter):
    batched = adapt(patches, text, adapter=adapter)
    alone = torch.cat([adapt(image, text, adapter=adapter) for image in patches.split(1)])
    backwards = adapt(patches.flip(0), text, adapter=adapter).flip(0)
    torch.testing.assert_close(batched, alone, rtol=0, atol=1e-5)
    torch.testing.assert_close(batched, backwards, rtol=0, atol=1e-5)
    assert not torch.allclose(batched, adapt(patches, text, adapter=adapter, steps=0), atol=1e-4)


def test_an_optimizer_that_is_not_reset_makes_a_sequence(patches, text):
    kept = adapt(patches, text, reset_optimizer=False)
    reset = adapt(patches, text)
    torch.testing.assert_close(kept[:1], reset[:1], rtol=0, atol=1e-5)
    assert not torch.allclose(kept[1:], reset[1:], atol=1e-4)
    assert not torch.allclose(
        kept, adapt(patches.flip(0), text, reset_optimizer=False).flip(0), atol=1e-4
    )


def test_every_image_draws_the_same(patches, text):
    twins = adapt(patches[:1].expand(3, -1, -1, -1), text)
    torch.testing.assert_close(twins, twins[:1].expand_as(twins))


def test_fewer_steps_meet_the_same_noise(patches, text):
    _, five = adapt(patches, text, return_trace=True)
    three = adapt(patches, text, steps=3)
    torch.testing.assert_close(three, five.tokens[:, 3])


def test_drawing_by_hand_is_injecting(patches, text):
    generator = torch.Generator().manual_seed(7)
    bound = 1 / math.sqrt(D)
    weight = torch.empty(P, D).uniform_(-bound, bound, generator=generator)
    bias = torch.empty(P).uniform_(-bound, bound, generator=generator)
    noise = torch.stack([0.1 * torch.randn(3, 2, D, generator=generator) for _ in range(2)])
    init = (weight.expand(4, P, D), bias.expand(4, P))
    injected = adapt(patches, text, init=init, noise=noise.expand(4, 2, 3, 2, D), steps=2)
    torch.testing.assert_close(adapt(patches, text, seed=7, steps=2, noise_std=0.1), injected)


# The trace


def test_the_trace_tells_every_step(patches, text):
    adapted, trace = adapt(patches, text, return_trace=True, lr=1e-2)
    assert {term.shape for term in vars(trace).values()} == {(4, 5), (4, 6, 3, 2, D)}
    torch.testing.assert_close(trace.total, trace.entropy + (trace.noisy + trace.clean) / 2)
    assert torch.equal(trace.tokens[:, -1], adapted)
    assert (trace.total[:, -1] < trace.total[:, 0]).all()
    clean = anomalous_probability(trace.tokens[:, :-1], text)
    torch.testing.assert_close(trace.clean, -(1 - clean).log().mean(dim=(2, 3)))


def test_without_steps_it_is_the_random_adapter(patches, text):
    weight, bias = rand(4, P, D), rand(4, P)
    adapted, trace = adapt(patches, text, steps=0, init=(weight, bias), return_trace=True)
    torch.testing.assert_close(adapted, apply_adapter(patches, weight, bias, text.prompts))
    assert trace.total.shape == (4, 0)


# Any caller's mode


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_learns_whatever_mode_the_caller_is_in(patches, text, mode):
    expected = adapt(patches, text)
    with mode():
        patches = patches + 0  # an inference tensor, if that is the mode
        words = TextFeatures(text.prototypes + 0, text.prompts + 0, text.is_anomalous)
        noise = torch.zeros(4, 5, 3, 2, D)
        assert torch.equal(adapt(patches, words), expected)
        adapt(patches, words, noise=noise)
    assert not adapt(patches, words).requires_grad


def test_autocast_does_not_coarsen_it(patches, text):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = adapt(patches, text)
    assert torch.equal(inside, adapt(patches, text))


def test_the_input_is_left_alone(patches, text):
    before = patches.clone()
    adapt(patches.requires_grad_(), text)
    assert torch.equal(patches, before)
    assert patches.grad is None


def test_half_precision_comes_out_as_float32(patches, text):
    adapted = adapt(patches.bfloat16(), text)
    assert adapted.dtype == torch.float32
    assert torch.equal(adapted, adapt(patches.bfloat16().float(), text))


# Readout


def test_a_readout_chooses_the_values_of_the_loss(patches, text):
    _, trace = adapt(patches, text, readout=lambda p: p[:, :1], return_trace=True)
    clean = anomalous_probability(trace.tokens[:, 0, :1], text)
    torch.testing.assert_close(trace.clean[:, 0], -(1 - clean).log().mean(dim=(1, 2)))


def test_a_readout_may_not_mix_images(patches, text):
    with pytest.raises(ValueError, match="readout"):
        adapt(patches, text, readout=lambda p: p.mean(dim=0))


def test_a_readout_that_leaves_probabilities_is_noticed(patches, text):
    with pytest.raises(ValueError, match="NaN or infinity"):
        adapt(patches, text, readout=lambda p: p + 1)


# Bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"adapter": "mlp"}, "mlp"),
        ({"reset_optimizer": "kept"}, "reset_optimizer"),
        ({"steps": -1}, "steps"),
        ({"steps": 2.5}, "steps"),
        ({"terms": "clean"}, "terms"),
        ({"terms": ()}, "terms"),
        ({"terms": ("clean", "tfa")}, "terms"),
        ({"seed": "zero"}, "seed"),
        ({"lr": -1e-3}, "lr"),
        ({"lr": math.inf}, "lr"),
        ({"noise_std": math.nan}, "noise_std"),
        ({"noise_std": "big"}, "noise_std"),
        ({"noise": torch.zeros(4, 4, 3, 2, D)}, r"noise.*\(4, 5, 3, 2, 8\)"),
        ({"noise": torch.full((4, 5, 3, 2, D), torch.nan)}, "NaN"),
        ({"init": (torch.zeros(4, D, D), torch.zeros(4, P))}, r"weights.*\(4, 6, 8\)"),
        ({"init": (torch.zeros(4, P, D), torch.zeros(P))}, r"biases.*\(4, 6\)"),
        ({"init": (torch.zeros(4, P, D),)}, "unpack"),
    ],
)
def test_bad_options_are_refused(patches, text, options, message):
    with pytest.raises(ValueError, match=message):
        adapt(patches, text, **options)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.ones(3, D), r"patches must have shape \(B, \*grid, D\)"),
        (torch.ones(0, 3, 2, D), r"patches must have shape"),
        (torch.ones(1, 3, 2, D + 1), "width of the text"),
        (torch.full((1, 3, 2, D), torch.nan), "NaN or infinity"),
        (torch.zeros(1, 3, 2, D), "zero vector"),
    ],
)
def test_bad_patches_are_refused(text, bad, message):
    with pytest.raises(ValueError, match=message):
        adapt(bad, text)
