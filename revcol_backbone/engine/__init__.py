"""What plugs into mmengine: hooks, precision, layer decay, sharding, test-time augmentation."""
