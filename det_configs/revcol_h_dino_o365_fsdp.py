# revcol_h_dino_o365.py with everything that training keeps sharded over the processes.
_base_ = ['./revcol_h_dino_o365.py', '../base_configs/fsdp.py']
