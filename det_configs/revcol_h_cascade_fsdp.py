# revcol_h_cascade.py with everything that training keeps sharded over the processes.
_base_ = ['./revcol_h_cascade.py', './_base_/fsdp.py']
