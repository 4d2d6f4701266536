"""What only the tools use: FLOPs, similarity, column outputs, memory, timing."""
