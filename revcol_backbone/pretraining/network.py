"""RevCol with the classifiers and decoders that it is pre-trained with."""

from __future__ import annotations

from typing import Any, cast

from mmengine.registry import MODELS
from torch import Tensor, nn

from revcol_backbone.pretraining.decoders import make_decoder
from revcol_backbone.pretraining.heads import Classifier
from revcol_backbone.revcol import RevCol, check_input, initialize_weights
from revcol_backbone.variants import Architecture

# After every quarter of the columns there is a classifier, and a decoder but after the last.
SUPERVISED = 4


@MODELS.register_module()
class RevColPretraining(RevCol):
    """A RevCol that classifies images and, while it is pre-trained, also rebuilds them.

    Its state dict is that of the published classification files: the backbone's keys, beside
    ``cls_blocks.*`` and ``decoder_blocks.*``, or ``cls.*`` without intermediate supervision.

    Args:
        arch: As of :class:`~revcol_backbone.RevCol`; with intermediate supervision the number of
            columns is a multiple of 4.
        num_classes: Number of classes.
        intermediate_supervision: Put classifiers behind columns N/4, N/2, 3N/4 and N, and
            decoders behind the first three of them (paper, section 2.3). Otherwise one classifier
            behind the last column, as for fine-tuning. Default ``True``.
        head_init_scale: Factor on the initial weights and biases of the classifiers' linear layers;
            fine-tuning starts with 0.001. Default 1.
        init_cfg: ``dict(type='Pretrained', checkpoint=FILE_OR_URL)`` loads the backbone and leaves
            classifiers and decoders as initialized.
        **kwargs: ``kernel_size``, ``drop_path_rate``, ``save_memory``, ``anchor_every`` and
            ``frozen_columns`` of :class:`~revcol_backbone.RevCol`.

    Raises:
        ValueError: An argument is out of range; the message says what is allowed.
    """

    def __init__(
        self,
        arch: str | dict | Architecture,
        num_classes: int,
        intermediate_supervision: bool = True,
        head_init_scale: float = 1.0,
        init_cfg: dict | list[dict] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(arch, init_cfg=init_cfg, **kwargs)
        self.num_classes = _check_num_classes(num_classes)
        self.intermediate_supervision = bool(intermediate_supervision)
        channels, columns = self.arch.channels, self.columns
        if not self.intermediate_supervision:
            self.supervised_columns: tuple[int, ...] = (columns - 1,)
            self.cls = Classifier(channels[-1], num_classes)
            heads = [self.cls]
        else:
            if columns % SUPERVISED:
                raise ValueError(
                    f'intermediate supervision follows every quarter of the columns, and {columns} '
                    'columns have no quarters; give a multiple of 4, or '
                    'intermediate_supervision=False.'
                )
            self.supervised_columns = tuple(
                quarter * columns // SUPERVISED - 1 for quarter in range(1, SUPERVISED + 1)
            )
            self.cls_blocks = nn.ModuleList(
                Classifier(channels[-1], num_classes) for _ in range(SUPERVISED)
            )
            self.decoder_blocks = nn.ModuleList(
                make_decoder(channels, num_classes) for _ in range(SUPERVISED - 1)
            )
            heads = [*self.cls_blocks, *self.decoder_blocks]
        for head in heads:
            head.apply(initialize_weights)
        for classifier in self.classifiers:
            for parameter in classifier.classifier[-1].parameters():
                parameter.data.mul_(head_init_scale)

    @property
    def classifiers(self) -> list[Classifier]:
        """The classifiers, the last column's last."""
        blocks = self.cls_blocks if self.intermediate_supervision else [self.cls]
        return [cast(Classifier, block) for block in blocks]

    @property
    def decoders(self) -> list[nn.Module]:
        """The decoders, the first supervised column's first; none without supervision."""
        return list(self.decoder_blocks) if self.intermediate_supervision else []

    def forward(  # type: ignore[override]  # another network
        self, x: Tensor
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Classify and rebuild images.

        Args:
            x: Normalized images of shape (B, 3, H, W); with intermediate supervision H and W are
                multiples of 32.

        Returns:
            The logits (B, classes) of every classifier, and of every decoder the logits
            (B, 3, H, W) of the picture in [0, 1]: four and three, or one and none.

        Raises:
            ValueError: The input has another shape.
            RuntimeError: The network was switched to deploy.
        """
        check_input(x, self.in_channels)
        _check_size(x, self.decoders)
        if self.deploy:
            raise RuntimeError(
                'this network was switched to deploy, which leaves its last classifier alone; call '
                'classify(), or build it with deploy=False.'
            )
        outputs = self.run_columns(self.stem(x), self.supervised_columns)
        tops = [levels[-1] for levels in outputs]
        logits = tuple(
            classifier(top) for classifier, top in zip(self.classifiers, tops, strict=True)
        )
        pictures = tuple(
            decoder(top) for decoder, top in zip(self.decoders, tops[:-1], strict=False)
        )
        return logits, pictures

    def classify(self, x: Tensor) -> Tensor:
        """Compute the last classifier's logits alone, (B, classes); sizes need no multiples."""
        return self.classifiers[-1](super().forward(x)[-1])


def _check_num_classes(num_classes: int) -> int:
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 2:
        raise ValueError(f'num_classes={num_classes!r} is not allowed; give an integer above 1.')
    return num_classes


def _check_size(x: Tensor, decoders: list[nn.Module]) -> None:
    height, width = x.shape[-2:]
    if decoders and (height % 32 or width % 32):
        raise ValueError(
            f'images of {height}x{width} were given; with intermediate supervision both sides '
            'have to be multiples of 32.'
        )
