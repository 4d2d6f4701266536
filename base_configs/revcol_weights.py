# Where the published weights of RevCol are: classifiers, and models fine-tuned on COCO and ADE20K.
checkpoints = 'https://github.com/megvii-research/RevCol/releases/download/checkpoint/'
fine_tuned = 'https://huggingface.co/LarryTsai/RevCol/resolve/main/revcol_models/'
# RevCol-H, its 3x3 kernels zero-padded to 7x7 for downstream use.
huge_checkpoint = fine_tuned + 'segmentation/revcol_huge_k7padded.pth'
