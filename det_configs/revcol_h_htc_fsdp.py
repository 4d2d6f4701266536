# revcol_h_htc.py with everything that training keeps sharded over the processes.
_base_ = ['./revcol_h_htc.py', '../base_configs/fsdp.py']
