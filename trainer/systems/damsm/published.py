"""AttnGAN's image_encoder*.pth: a plain state_dict of Inception v3's trunk and the two layers above it."""

from pathlib import Path

from store.errors import ChatPainterError, one_line
from trainer import tensor_file
from trainer.systems.damsm.image_encoders import InceptionEncoder


def read_image_encoder(path: str | Path) -> InceptionEncoder:
    """The image encoder in the file, in eval mode.

    Raises:
        ChatPainterError: the file is missing, holds more than tensors, or is not DAMSM's image encoder.
    """
    state = tensor_file.read_state(path).tensors
    try:
        encoder = InceptionEncoder(len(state["emb_cnn_code.weight"]))
        tensor_file.fit(encoder, state)
    except (KeyError, ValueError, RuntimeError) as error:
        reason = f"its state_dict lacks {error.args[0]}" if isinstance(error, KeyError) else one_line(error)
        raise ChatPainterError(f"{path}: not DAMSM's image encoder ({reason})") from None
    return encoder.eval()


def write_image_encoder(encoder: InceptionEncoder, path: str | Path) -> None:
    """Write the encoder as AttnGAN's image_encoder*.pth, without counters, atomically."""
    tensor_file.write_state(encoder, path)
