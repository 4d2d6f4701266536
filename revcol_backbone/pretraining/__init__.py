"""Pre-training and fine-tuning of RevCol on image classification, under mmpretrain.

Importing this package, as configs do by ``custom_imports``, registers at mmengine's root the models
``RevColPretraining``, ``RevColClassifier`` and ``WeakLogitDistillation``, the pipeline steps
``PretrainingAugmentation`` and ``EvaluationTransform``, and the hooks ``ImageDatasetCheckHook``,
``ProgressBarHook``, ``PublishedWeightsHook`` and ``ShardableEMAHook``. It does not import
mmpretrain.
"""

from revcol_backbone.pretraining.classifier import RevColClassifier
from revcol_backbone.pretraining.dataset_check_hook import ImageDatasetCheckHook
from revcol_backbone.pretraining.distillation import WeakLogitDistillation
from revcol_backbone.pretraining.ema_hook import ShardableEMAHook
from revcol_backbone.pretraining.loss import compound_loss
from revcol_backbone.pretraining.network import RevColPretraining
from revcol_backbone.pretraining.progress_bar_hook import ProgressBarHook
from revcol_backbone.pretraining.published_weights_hook import PublishedWeightsHook
from revcol_backbone.pretraining.transforms import EvaluationTransform, PretrainingAugmentation

__all__ = [
    'EvaluationTransform',
    'ImageDatasetCheckHook',
    'PretrainingAugmentation',
    'ProgressBarHook',
    'PublishedWeightsHook',
    'RevColClassifier',
    'RevColPretraining',
    'ShardableEMAHook',
    'WeakLogitDistillation',
    'compound_loss',
]
