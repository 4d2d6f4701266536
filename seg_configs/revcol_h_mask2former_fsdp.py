# revcol_h_mask2former.py with everything that training keeps sharded over the processes.
_base_ = ['./revcol_h_mask2former.py', '../base_configs/fsdp.py']
