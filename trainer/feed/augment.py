"""Pictures in bytes, and as networks see them: cropped, mirrored and normalised on their device."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F


def augment(images: torch.Tensor, crop: int, draws: torch.Tensor | None = None, flip: bool = True) -> torch.Tensor:
    """(b, s, s, 3) uint8 → (b, 3, crop, crop) float32 in [-1, 1], channels last in memory, on the images' device.

    With `draws` (b, 3), uniform in [0, 1), each picture gets its own place of the crop and, if `flip`, is mirrored with
    probability 1/2, as StackGAN-Pytorch does (76 → 64, 304 → 256); without, the crop is central and not mirrored.
    """
    b, height, width, _ = images.shape
    device = images.device
    along = torch.arange(crop, device=device)
    if draws is None:
        top = torch.full((b, 1), (height - crop) // 2, device=device)
        left = torch.full((b, 1), (width - crop) // 2, device=device)
        columns = left + along
    else:
        down, across, mirror = draws.to(device, non_blocking=True)[:, :, None].unbind(1)
        top = (down * (height - crop + 1)).long()
        left = (across * (width - crop + 1)).long()
        columns = left + torch.where(mirror < 0.5, along.flip(0), along) if flip else left + along
    rows = torch.arange(b, device=device)[:, None] * height + top + along
    # One index_select of whole pixels: twice as fast on a CPU as indexing by picture, row and column.
    pixels = (rows[:, :, None] * width + columns[:, None, :]).flatten()
    picked = images.reshape(-1, 3).index_select(0, pixels).view(b, crop, crop, 3)
    return picked.permute(0, 3, 1, 2).to(torch.float32).mul_(2 / 255).sub_(1)


def to_uint8(pictures: torch.Tensor) -> torch.Tensor:
    """(B, 3, s, s) in [-1, 1] → (B, s, s, 3) uint8, rounded."""
    return ((pictures.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def at_sides(pictures: torch.Tensor, sides: Sequence[int]) -> dict[int, torch.Tensor]:
    """The same crops at several sides, (B, 3, s, s) → (B, 3, side, side) each, for systems that paint several.

    Smaller ones are filtered bilinearly as Pillow does, without its rounding, on the pictures' device: so one store of
    the largest serves all.

    Raises:
        ValueError: a side larger than s.
    """
    side = pictures.shape[-1]
    if any(each > side for each in sides):
        raise ValueError(f"pictures of {side} cannot be made smaller to {', '.join(map(str, sides))}")
    return {each: pictures if each == side else _smaller(pictures, each) for each in sides}


def _smaller(pictures: torch.Tensor, side: int) -> torch.Tensor:
    made = F.interpolate(pictures, (side, side), mode="bilinear", antialias=True, align_corners=False)
    return made.contiguous(memory_format=torch.channels_last)
