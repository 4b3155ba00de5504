"""ONNX -> TensorRT engine: build, prove, store and run. Knows TensorRT, torch and ONNX, and nothing of gankit.

TensorRT is imported when it is first needed. Each module is imported by its own name.
"""
