"""What this project does on one CUDA card, and whether it does the same there as on a processor."""
