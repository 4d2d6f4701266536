# UPerNet on four columns of Swin blocks, as wide and deep as RevCol-T: ours, nothing was published.
_base_ = './revcol_t_upernet.py'
custom_imports = dict(
    imports=[*_base_.custom_imports.imports, 'revcol_backbone.transformers.swin_columns'],
    allow_failed_imports=False,
)

model = dict(
    backbone=dict(_delete_=True, type='SwinColumns', arch='tiny', drop_path_rate=0.3),
)
# The rule of layer-wise decay is RevCol's own. As for Swin, tables of positions do not decay.
optim_wrapper = dict(
    constructor='DefaultOptimWrapperConstructor',
    paramwise_cfg=dict(
        _delete_=True,
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={
            'alpha': dict(decay_mult=0.0),
            'relative_position_bias_table': dict(decay_mult=0.0),
        },
    ),
)
