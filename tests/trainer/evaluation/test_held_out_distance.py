"""The distance that chooses the best checkpoint: zero for the same pictures, larger the worse they are."""

import numpy as np
import torch

from trainer.evaluation.held_out_distance import PATCH, PATCHES, distance, normalised, patches, places, pyramid


def pictures(seed: int, blur: int = 1, noise: float = 0.0) -> torch.Tensor:
    """32 pictures of squares (3, 64, 64) in [-1, 1]; `blur` averages over so many pixels."""
    stream = torch.Generator().manual_seed(seed)
    result = torch.full((32, 3, 64, 64), -0.5)
    for one in result:
        top, left = torch.randint(8, 40, (2,), generator=stream).tolist()
        one[:, top : top + 16, left : left + 16] = torch.rand(3, 1, 1, generator=stream) * 2 - 1
    if blur > 1:
        result = torch.nn.functional.avg_pool2d(result, blur, 1, blur // 2)[..., :64, :64]
    return result + noise * torch.randn(result.shape, generator=stream)


def apart(real: torch.Tensor, painted: torch.Tensor) -> float:
    where = places(64, 32)
    return distance(patches(real, where), patches(painted, where))


def test_the_same_pictures_are_no_distance_apart() -> None:
    assert apart(pictures(0), pictures(0)) == 0.0


def test_worse_pictures_are_further_away() -> None:
    alike = apart(pictures(0), pictures(1))
    for worse in (pictures(1, noise=0.3), pictures(1, blur=9), torch.full((32, 3, 64, 64), -0.5)):
        assert apart(pictures(0), worse) > 1.5 * alike


def test_the_pyramid_loses_nothing() -> None:
    real = pictures(0, noise=0.1)
    *details, last = pyramid(real)
    assert [level.shape[-1] for level in (*details, last)] == [64, 32, 16]
    for detail in reversed(details):
        last = torch.nn.functional.interpolate(last, scale_factor=2, mode="bilinear", align_corners=False) + detail
    torch.testing.assert_close(last, real)


def test_patches_are_cut_where_asked_and_normalised_by_channel() -> None:
    real = pictures(0, noise=0.2)
    where = places(64, 32)
    assert [int(level.max()) <= side - PATCH for level, side in zip(where, (64, 32, 16))] == [True] * 3
    for level, cut, (tops, lefts) in zip(pyramid(real), patches(real, where), where):
        expected = np.empty((32, PATCHES, PATCH, PATCH, 3))
        for n in range(32):
            for p in range(PATCHES):
                top, left = int(tops[n, p]), int(lefts[n, p])
                expected[n, p] = level[n, :, top : top + PATCH, left : left + PATCH].permute(1, 2, 0).double()
        np.testing.assert_array_equal(cut.numpy(), expected.reshape(-1, PATCH * PATCH, 3))
        flat = expected.reshape(-1, 3)
        np.testing.assert_allclose(
            normalised(cut).numpy().reshape(-1, 3), (flat - flat.mean(0)) / flat.std(0), atol=1e-4
        )
