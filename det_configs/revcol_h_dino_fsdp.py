# revcol_h_dino.py with everything that training keeps sharded over the processes, after
# revcol_h_dino_o365_fsdp.py.
_base_ = ['./revcol_h_dino.py', '../base_configs/fsdp.py']

load_from = 'work_dirs/revcol_h_dino_o365_fsdp/epoch_26.pth'
