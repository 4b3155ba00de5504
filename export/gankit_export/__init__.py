"""nn.Module -> artefact: exact rewrites, precision in the module, ONNX, parity, manifest.

Knows torch and ONNX, and nothing of gankit; useful alone. Each module is imported by its own name.
"""
