"""Files as torch 0.2 to 0.4 wrote them under Python 2.7, opcode by opcode: no zip, names as Python 2's strings."""

import struct
from collections.abc import Mapping
from pathlib import Path

import torch

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


def write_legacy(
    path: Path, tensors: Mapping[str, torch.Tensor], *, oldest: bool = False, where: str = "cuda:0"
) -> None:
    """A state_dict; `oldest`: tensors rebuilt as before torch 0.4. `where`: the device that they were saved on."""
    pickled, storages = b"\x80\x02", b""
    pickled += b"ccollections\nOrderedDict\n]("
    for number, (name, tensor) in enumerate(tensors.items()):
        tensor = tensor.contiguous()
        pickled += b"](" + _text(name) + _tensor(tensor, str(94000 + number), oldest, where) + b"e"
        raw = tensor.numpy().tobytes()
        storages += struct.pack("<q", tensor.numel()) + raw
    pickled += b"e\x85R."
    keys = b"\x80\x02](" + b"".join(_text(str(94000 + number)) for number in range(len(tensors))) + b"e."
    header = b"\x80\x02" + _integer(MAGIC) + b"." + b"\x80\x02" + _integer(PROTOCOL) + b"."
    system = b"\x80\x02}(" + _text("little_endian") + b"\x88" + _text("protocol_version") + _integer(PROTOCOL) + b"u."
    path.write_bytes(header + system + pickled + keys + storages)


def _tensor(tensor: torch.Tensor, key: str, oldest: bool, where: str) -> bytes:
    kind = {torch.float32: b"FloatStorage", torch.int64: b"LongStorage"}[tensor.dtype]
    storage = b"(" + _text("storage") + b"ctorch\n" + kind + b"\n" + _text(key) + _text(where)
    storage += _integer(tensor.numel()) + b"NtQ"
    shape = b"(" + b"".join(map(_integer, tensor.shape)) + b"t"
    stride = b"(" + b"".join(map(_integer, tensor.stride())) + b"t"
    if oldest:
        return b"ctorch._utils\n_rebuild_tensor\n(" + storage + b"K\x00" + shape + stride + b"tR"
    hooks = b"ccollections\nOrderedDict\n]\x85R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00" + shape + stride + b"\x89" + hooks + b"tR"


def _text(text: str) -> bytes:
    """Python 2's str."""
    return b"U" + bytes([len(text)]) + text.encode("ascii")


def _integer(value: int) -> bytes:
    if 0 <= value < 256:
        return b"K" + bytes([value])
    if value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes((value.bit_length() + 8) // 8, "little")
    return b"\x8a" + bytes([len(raw)]) + raw
