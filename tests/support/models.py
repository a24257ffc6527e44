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


def small_model(**changes: Any) -> Any:
    """A `ModelConfig` of these sizes, with changes."""
    from trainer.systems.chatpainter.config import ModelConfig

    return ModelConfig(**(SMALL | changes))
