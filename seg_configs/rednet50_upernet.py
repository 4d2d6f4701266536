_base_ = './_base_/rednet_upernet.py'
