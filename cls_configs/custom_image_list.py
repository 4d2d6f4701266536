# The same from plain lists: a line of `train.txt` and `val.txt` is the path of an image within
# `images`, a space and its label, counted from 0.
_base_ = './custom_image_folder.py'

train_dataloader = dict(dataset=dict(data_prefix='images', ann_file='train.txt'))
val_dataloader = dict(dataset=dict(data_prefix='images', ann_file='val.txt'))
test_dataloader = val_dataloader
