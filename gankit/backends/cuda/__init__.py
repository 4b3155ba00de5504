"""What eager and compile run on a CUDA GPU."""
