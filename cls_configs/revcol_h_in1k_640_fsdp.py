# revcol_h_in1k_640.py with everything that training keeps sharded over the processes.
_base_ = ['./revcol_h_in1k_640.py', '../base_configs/fsdp.py']
