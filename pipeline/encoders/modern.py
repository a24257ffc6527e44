"""Modern text encoders beside the published ones."""

from typing import Any

from pipeline.encoders import Encoded, EncoderSettings
from store.errors import ChatPainterError


def identity(name: str, settings: EncoderSettings) -> dict[str, Any]:
    """The identity of the encoder `name`."""
    raise ChatPainterError(f"params.yaml: no encoder {name!r}; known: char-cnn-rnn, skip-thought")


class Modern:
    """Encoder over a local folder."""

    def __init__(self, name: str, settings: EncoderSettings) -> None:
        self.identity = identity(name, settings)
        self.dim = 0

    def encode(self, texts: Any) -> Encoded:
        """Vectors of `texts`."""
        raise NotImplementedError
