# revcol_h_dino.py with everything that training keeps sharded over the processes.
_base_ = ['./revcol_h_dino.py', './_base_/fsdp.py']
