"""What checks and builds this repository, and runs nowhere else."""
