# Your own images and label maps (labels 0 to N - 1, 255 ignored). Copy this file beside itself,
# fill in the first block, and run `mim train mmseg FILE --gpus 1`.
_base_ = './revcol_t_upernet.py'
from revcol_backbone.engine.custom_data import set_num_classes  # noqa: E402

data_root = 'data/my_dataset/'
train = dict(img_path='images/train', seg_map_path='annotations/train')
val = dict(img_path='images/val', seg_map_path='annotations/val')
files = dict(img_suffix='.jpg', seg_map_suffix='.png')
classes = ('background', 'road')
max_iters = 20000
load_from = _base_.fine_tuned + 'segmentation/upernet_revcol_tiny_fp16_512x512_160k_ade20k.pth'

model = set_num_classes(_base_.model, len(classes))
model.backbone.init_cfg = None  # `load_from` has its weights
dataset = dict(files, type='BaseSegDataset', data_root=data_root, metainfo=dict(classes=classes))
train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[1] = test_pipeline[2] = dict(type='LoadAnnotations')
train_dataloader = dict(dataset=dict(dataset, data_prefix=train, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(dataset, data_prefix=val, pipeline=test_pipeline))
test_dataloader = val_dataloader
train_cfg = dict(max_iters=max_iters, val_interval=2000)
param_scheduler = [_base_.warmup, dict(_base_.poly, end=max_iters + 1)]
auto_scale_lr = dict(enable=True)  # the learning rate fits the number of GPUs; the log says how
