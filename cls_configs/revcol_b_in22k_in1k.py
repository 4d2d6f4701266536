_base_ = './_base_/finetune.py'
