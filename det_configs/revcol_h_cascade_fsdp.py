# revcol_h_cascade.py with everything that training keeps sharded over the processes.
_base_ = ['./revcol_h_cascade.py', '../base_configs/fsdp.py']
