"""Pictures in bytes, and as networks see them: cropped, mirrored and normalised on their device."""

import torch


def augment(
    images: torch.Tensor, crop: int, generator: torch.Generator | None = None, flip: bool = True
) -> torch.Tensor:
    """(b, s, s, 3) uint8 → (b, 3, crop, crop) float32 in [-1, 1], channels last in memory, on the images' device.

    With a generator each picture gets its own place of the crop and, if `flip`, is mirrored with probability 1/2, as
    StackGAN-Pytorch does (76 → 64, 304 → 256); without one the crop is central and nothing is mirrored. The draws are
    made on the generator's device, so a CPU generator gives the same crops on every device.
    """
    b, height, width, _ = images.shape
    device = images.device
    along = torch.arange(crop, device=device)
    if generator is None:
        top = torch.full((b, 1), (height - crop) // 2, device=device)
        left = torch.full((b, 1), (width - crop) // 2, device=device)
        columns = left + along
    else:
        draws = torch.rand(3, b, 1, generator=generator, device=generator.device).to(device, non_blocking=True)
        top = (draws[0] * (height - crop + 1)).long()
        left = (draws[1] * (width - crop + 1)).long()
        columns = left + torch.where(draws[2] < 0.5, along.flip(0), along) if flip else left + along
    rows = torch.arange(b, device=device)[:, None] * height + top + along
    # One index_select of whole pixels: twice as fast on a CPU as indexing by picture, row and column.
    pixels = (rows[:, :, None] * width + columns[:, None, :]).flatten()
    picked = images.reshape(-1, 3).index_select(0, pixels).view(b, crop, crop, 3)
    return picked.permute(0, 3, 1, 2).to(torch.float32).mul_(2 / 255).sub_(1)


def to_uint8(pictures: torch.Tensor) -> torch.Tensor:
    """(B, 3, s, s) in [-1, 1] → (B, s, s, 3) uint8, rounded."""
    return ((pictures.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
