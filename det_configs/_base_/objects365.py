# Objects365 v2 with most of its validation set folded into training, as in DINO (arXiv 2203.03605,
# appendix D): 5,000 images are kept for validation. `tools/split_annotations.py --first 5000`
# writes the two annotation files from `zhiyuan_objv2_val.json`.
objects365_root = 'data/Objects365/Obj365_v2/'
objects365_train = dict(
    type='Objects365V2Dataset',
    data_root=objects365_root,
    ann_file='annotations/zhiyuan_objv2_train.json',
    data_prefix=dict(img='train/'),
)
objects365_folded_val = dict(
    type='Objects365V2Dataset',
    data_root=objects365_root,
    ann_file='annotations/zhiyuan_objv2_val_after5000.json',
    data_prefix=dict(img='val/'),
)
objects365_val = dict(
    type='Objects365V2Dataset',
    data_root=objects365_root,
    ann_file='annotations/zhiyuan_objv2_val_first5000.json',
    data_prefix=dict(img='val/'),
)
