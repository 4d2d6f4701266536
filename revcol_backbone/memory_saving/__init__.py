"""Training columns in memory that does not grow with their number."""
