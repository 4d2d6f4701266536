# Where the published ImageNet and pre-trained weights of RevCol are.
checkpoints = 'https://github.com/megvii-research/RevCol/releases/download/checkpoint/'
# RevCol-H, its 3x3 kernels zero-padded to 7x7 for downstream use.
huge_checkpoint = (
    'https://huggingface.co/LarryTsai/RevCol/resolve/main/revcol_models/segmentation/'
    'revcol_huge_k7padded.pth'
)
