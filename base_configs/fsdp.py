# The model, its gradients and the optimizer's state sharded over all processes (FSDP);
# docs/training.md tells what that saves.
runner_type = 'FlexibleRunner'
strategy = dict(type='RevColFSDPStrategy')
