"""Parts of models, made exportable: they mean the same, and half precision is enough for them."""

from __future__ import annotations

import torch
from torch import nn

from revcol_backbone import RevCol
from revcol_backbone.export import BackboneGraph, make_exportable
from tests.configs import TINY


class Head(nn.Module):
    """A convolution whose results leave the range of float16, and the batch norm after it."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Identity()
        self.decode_head = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        nn.init.normal_(self.decode_head[0].weight, std=1e3)
        self.decode_head[1].running_var.fill_(1e6)

    def forward(self, image):
        return self.decode_head(self.backbone(image))


def test_large_variances_of_batch_norms_do_not_overflow_in_half_precision():
    torch.manual_seed(0)
    head, image = Head().eval(), torch.randn(2, 3, 8, 8)
    expected = head(image)
    found = make_exportable(head).half()(image.half()).float()
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(head(image), expected)


def test_a_backbone_with_long_branches_means_the_same_and_stays_as_it_is():
    torch.manual_seed(0)
    model = nn.Module()
    model.backbone = RevCol(dict(TINY, long_up=True)).eval()
    for parameter in model.backbone.parameters():
        nn.init.normal_(parameter, std=0.3)
    graph, image = BackboneGraph(model), torch.randn(1, 3, 97, 456)
    keys = list(model.backbone.state_dict())
    with torch.no_grad():
        for deploy in (False, True):
            levels = make_exportable(graph, deploy)(image)
            for found, expected in zip(levels, model.backbone(image), strict=True):
                scale = expected.abs().max().item()
                torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * scale)
    assert list(model.backbone.state_dict()) == keys
