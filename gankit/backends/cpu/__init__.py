"""What makes eager fast on a CPU: streaming in strips, layerwise runs, fused convolutions."""
