"""What a file is that is no PyTorch or safetensors weights file, by its first bytes."""

from __future__ import annotations

from pathlib import Path

_NCNN_TAGS = (b"\x47\x6b\x30\x01", b"\x38\x4b\x0d\x00", b"\x2c\x0d\x00\x00")  # fp16, int8, raw: how a layer is stored
_STARTS = (
    (b"version https://git-lfs", "a Git LFS pointer, not the weights: git lfs pull, or download the file itself"),
    (b"\x89HDF\r\n", "an HDF5 file (Keras): give a PyTorch or safetensors file"),
    (b"GGUF", "a GGUF file: give a PyTorch or safetensors file"),
    (b"\x93NUMPY", "a NumPy array: give a PyTorch or safetensors file"),
    (b"<!DOCTYPE", "a web page, not a weights file: download the file itself"),
    (b"<html", "a web page, not a weights file: download the file itself"),
    (b"Rar!", "a RAR archive: unpack it, and give the weights file in it"),
    (b"7z\xbc\xaf", "a 7z archive: unpack it, and give the weights file in it"),
    (b"\x1f\x8b", "a gzip archive: unpack it, and give the weights file in it"),
)
_NCNN = "an ncnn model ({what}), which holds no names of its weights: give the PyTorch file from which it was converted"
_ONNX = "an ONNX model, in which the network is fixed: give the PyTorch file from which it was exported"


def other_kind(path: Path, data: bytes) -> str | None:
    """What a file is, and what to give in its place; ``None`` where that is not known.

    Args:
        path: of the file; its suffix, and the file beside it, tell where the content does not.
        data: the whole file.
    """
    if data.lstrip().startswith(b"7767517") or (path.suffix == ".param" and data[:4] == b"\x85\xbd\x76\x00"):
        return _NCNN.format(what="the .param file with its layers")
    if path.suffix == ".bin" and (path.with_suffix(".param").is_file() or data.startswith(_NCNN_TAGS)):
        return _NCNN.format(what="the .bin file with its weights")
    if path.suffix == ".onnx":
        return _ONNX
    if data[4:8] == b"TFL3":
        return "a TensorFlow Lite model: give a PyTorch or safetensors file"
    return next((what for start, what in _STARTS if data.startswith(start)), None)
