"""The encoder of columns in PyTorch's own Transformer."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from revcol_backbone.transformers.text_encoder import TextEncoder
from tests.columns_proof import ColumnsProof
from tests.golden import fill, image

WIDTH, HEADS = 8, 2


def build(**arguments: object) -> TextEncoder:
    sizes = dict(columns=3, levels=2, width=WIDTH, heads=HEADS, hidden=12) | arguments
    return fill(TextEncoder(**sizes))


def padding(*lengths: int) -> Tensor:
    return torch.arange(max(lengths)) >= torch.tensor(lengths)[:, None]


class Encoder(TextEncoder):
    """It returns one level, and as a tuple."""

    def forward(self, tokens: Tensor, padded: Tensor) -> tuple[Tensor]:
        return (super().forward(tokens, src_key_padding_mask=padded),)


class TestProof(ColumnsProof):
    """Dropout stands for drop path."""

    @staticmethod
    def build(columns: int, drop_path_rate: float = 0.0, **arguments: object) -> TextEncoder:
        sizes = dict(width=WIDTH, heads=HEADS, hidden=12, dropout=drop_path_rate)
        return Encoder(columns, levels=3, **sizes, **arguments)

    @staticmethod
    def inputs() -> tuple[Tensor, ...]:
        return image((2, 7, WIDTH)), padding(7, 4)

    @staticmethod
    def inputs_for_memory() -> tuple[Tensor, ...]:
        return image((2, 256, WIDTH)), padding(256, 200)


def test_padding_does_not_change_what_a_sentence_is() -> None:
    encoder, tokens = build().eval(), image((2, 7, WIDTH))
    both = encoder(tokens, src_key_padding_mask=padding(7, 4))
    torch.testing.assert_close(both[:1], encoder(tokens[:1]))
    torch.testing.assert_close(both[1:, :4], encoder(tokens[1:, :4]))


def test_a_mask_keeps_tokens_from_those_that_follow() -> None:
    encoder, tokens = build().eval(), image((1, 6, WIDTH)).requires_grad_()
    later = torch.ones(6, 6, dtype=torch.bool).triu(1)
    encoder(tokens, mask=later)[0, 2].square().sum().backward()
    assert (tokens.grad[0].abs().sum(-1) > 0).tolist() == [True] * 3 + [False] * 3


def test_pytorchs_transformer_trains_it_with_pytorchs_decoder() -> None:
    encoder = TextEncoder(3, 2, width=WIDTH, heads=HEADS, hidden=12)
    model = nn.Transformer(
        WIDTH, HEADS, num_decoder_layers=1, custom_encoder=encoder, batch_first=True
    )
    # Its own initialization of matrices must leave them alone.
    assert all((alpha == 0.5).all() for alpha in encoder.subnet1.alphas)
    masks = dict(src_key_padding_mask=padding(7, 4), memory_key_padding_mask=padding(7, 4))
    out = model(image((2, 7, WIDTH)), image((2, 5, WIDTH), 'target'), **masks)
    assert out.shape == (2, 5, WIDTH)
    out.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_dropout_drops_the_same_in_the_walk_back() -> None:
    tokens, found = image((2, 7, WIDTH)), []
    for save_memory in (True, False):
        encoder = build(dropout=0.3, save_memory=save_memory).double().train()
        torch.manual_seed(0)
        encoder(tokens.double(), src_key_padding_mask=padding(7, 4)).square().sum().backward()
        found.append(torch.cat([p.grad.flatten() for p in encoder.parameters()]))
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(columns=0), 'columns=0 is not allowed; give an integer at least 1'),
        (dict(levels=1), 'levels=1 is not allowed; give an integer at least 2'),
        (dict(layers=0), 'layers=0 is not allowed; give an integer at least 1'),
        (dict(save_memory=1), 'save_memory=1 is not allowed; give True or False'),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f'TextEncoder {message}'):
        build(**arguments)
