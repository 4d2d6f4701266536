# revcol_h_cascade_boxes.py with everything that training keeps sharded over the processes.
_base_ = ['./revcol_h_cascade_boxes.py', '../base_configs/fsdp.py']
