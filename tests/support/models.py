"""The smallest networks that have every part: what most tests of training, evaluating and painting use."""

from typing import Any

# Widths that differ where a mix-up could go unseen otherwise.
SMALL: dict[str, Any] = {
    "gf": 4,
    "df": 2,
    "residual_blocks": 1,
    "condition_dim": 4,
    "noise_dim": 3,
    "lstm_hidden": 3,
}

# Of the section `sg2im`.
SMALL_SG2IM: dict[str, Any] = {
    "side": 32,
    "embedding_dim": 5,
    "gconv_dim": 6,
    "gconv_hidden_dim": 7,
    "gconv_num_layers": 2,
    "refinement_dims": [8, 4],
    "layout_noise_dim": 2,
    "arch": "C4-3-2,C4-5-2",
    "crop_side": 16,
}

# `Networks` with which google/sg2im's were recorded (tests/support/parity), and their discriminators' `arch`.
RECORDED_SG2IM: dict[str, Any] = {
    "side": 32,
    "embedding_dim": 10,
    "gconv_dim": 12,
    "gconv_hidden_dim": 20,
    "gconv_num_layers": 3,
    "mask_size": 8,
    "refinement_dims": (16, 12, 8),
    "layout_noise_dim": 4,
}
RECORDED_SG2IM_ARCH = "C4-6-2,C4-8-2,C4-10-2"

# Of the section `stackgan-v2`: 16, 32 and 64 together.
SMALL_STACKGAN_V2: dict[str, Any] = {**SMALL, "size": 16, "attention": {"sides": [8, 16], "width": 5}}

# `networks` of the section `geneva`.
SMALL_GENEVA: dict[str, Any] = {
    "size": 64,
    "up": [8, 6, 6, 4, 4],
    "features": [3, 5],
    "down": [4, 6, 8, 10, 10],
    "auxiliary": 3,
    "sentence": 6,
    "hidden": 7,
    "condition_dim": 4,
    "noise_dim": 3,
    "start": "identity",
}

# Of the section `iterative`.
SMALL_ITERATIVE: dict[str, Any] = {
    "networks": {
        "size": 64,
        "widths": [3, 4, 5, 8],
        "df": 2,
        "noise_dim": 3,
        "ages": 3,
        "heads": 2,
        "see": [8],
        "recent": True,
        "modulate": True,
        "look": 2,
        "carry": 16,
        "attention": {"width": 6},
    },
    "matching": {"hidden": 5},
}


def small_model(**changes: Any) -> Any:
    """A `ModelConfig` of these sizes, with changes."""
    from trainer.systems.chatpainter.config import ModelConfig

    return ModelConfig(**(SMALL | changes))
