# Fine-tuning on images of your own: a folder with a subfolder of images for each class in `train`
# and in `val`. Set the folder and the number of classes.
_base_ = './revcol_b_in22k_in1k.py'

data_root = 'data/my_images'
num_classes = 10

model = dict(num_classes=num_classes)
dataset = dict(type='CustomDataset', data_root=data_root)
train_pipeline = _base_.train_dataloader.dataset.pipeline
val_pipeline = _base_.val_dataloader.dataset.pipeline
train_dataloader = dict(
    dataset=dict(dataset, _delete_=True, data_prefix='train', pipeline=train_pipeline)
)
val_dataloader = dict(
    dataset=dict(dataset, _delete_=True, data_prefix='val', pipeline=val_pipeline)
)
test_dataloader = val_dataloader
val_evaluator = dict(topk=(1, min(5, num_classes)))
test_evaluator = val_evaluator
