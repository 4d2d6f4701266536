# revcol_h_upernet.py with everything that training keeps sharded over the processes.
_base_ = ['./revcol_h_upernet.py', '../base_configs/fsdp.py']
