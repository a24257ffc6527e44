"""Modern text encoders beside the published ones: a sentence-transformers or transformers model in a local folder.

    encoders: {captions: "sentence-transformers:data/weights/all-MiniLM-L6-v2", …}
    encoders: {captions: "transformers:data/weights/bert-base-uncased", …}

The weights of 2015 may vanish one day; these need the extra `modern`. Nothing is downloaded and no code from the
folder is run. A transformers model's vector is the mean of its last states over the text's tokens.
"""

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.encoders import Encoded, EncoderSettings, check_texts
from pipeline.weights import WeightsError
from pipeline.weights.hashing import sha256
from store.errors import ChatPainterError

BATCH = 64


def _parts(name: str) -> tuple[str, Path]:
    library, _, folder = name.partition(":")
    if not folder:
        raise ChatPainterError(f"params.yaml: encoder {name!r} lacks its folder: {library}:FOLDER")
    if not (Path(folder) / "config.json").is_file() and not (Path(folder) / "modules.json").is_file():
        raise WeightsError(f"{folder}: no model for {library} here (no config.json or modules.json)")
    return library, Path(folder)


def identity(name: str, settings: EncoderSettings) -> dict[str, Any]:
    """The identity of the encoder `name`: library and version, sha256 of every file of its folder, precision."""
    library, folder = _parts(name)
    try:
        version = metadata.version(library)
    except metadata.PackageNotFoundError:
        raise ChatPainterError(
            f"params.yaml: encoder {name!r} needs the package {library}: pip install 'chatpainter[modern]'"
        ) from None
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {
        "name": library,
        "version": version,
        "trained": True,
        "weights": {path.relative_to(folder).as_posix(): sha256(path) for path in files},
        "precision": settings.precision,
    }


def build(name: str, settings: EncoderSettings) -> "Modern":
    """The encoder `name`."""
    return Modern(name, settings)


class Modern:
    """Encoder over a local folder."""

    def __init__(self, name: str, settings: EncoderSettings) -> None:
        from pipeline.encoders.devices import device

        self.identity = identity(name, settings)
        self.settings = settings
        library, folder = _parts(name)
        self.device = device(settings.device)
        self.sentences: Any = None
        if library == "sentence-transformers":
            from sentence_transformers import SentenceTransformer

            self.sentences = SentenceTransformer(str(folder), device=str(self.device), local_files_only=True).eval()
            self.tokenizer = self.sentences.tokenizer
            self.longest = self.sentences.max_seq_length
        else:
            from transformers import AutoModel, AutoTokenizer

            self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            self.model = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
            self.model.eval().to(self.device)
            self.longest = getattr(self.model.config, "max_position_embeddings", None)
        self.dim = self._vectors(["a"]).shape[1]

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Vectors of `texts`; an empty text becomes zeros. Tokens are the model's own, without its special ones."""
        texts = check_texts(texts)
        vectors = np.zeros((len(texts), self.dim), np.float32)
        ids = self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"] if texts else []
        counts = np.array([len(row) for row in ids], np.int32)
        room = np.inf if self.longest is None else self.longest - self.tokenizer.num_special_tokens_to_add()
        unknown = np.array([row.count(self.tokenizer.unk_token_id) for row in ids], np.int32)
        # Neighbours of one length need no padding, so that a vector does not depend on its neighbours.
        filled = sorted((i for i, row in enumerate(ids) if row), key=lambda i: len(ids[i]))
        start = 0
        while start < len(filled):
            stop = start + 1
            while stop < min(len(filled), start + BATCH) and counts[filled[stop]] == counts[filled[start]]:
                stop += 1
            vectors[filled[start:stop]] = self._vectors([texts[i] for i in filled[start:stop]])
            start = stop
        return Encoded(vectors, counts, unknown, counts > room)

    def _vectors(self, texts: list[str]) -> np.ndarray:
        from pipeline.encoders.devices import precision

        with precision(self.settings.precision):
            if self.sentences is not None:
                found = self.sentences.encode(texts, convert_to_numpy=True, show_progress_bar=False, batch_size=BATCH)
                return np.asarray(found, np.float32)
            tokens = self.tokenizer(
                texts, return_tensors="pt", padding=True, truncation=self.longest is not None, max_length=self.longest
            ).to(self.device)
            states = self.model(**tokens).last_hidden_state.float()
            mask = tokens["attention_mask"][..., None].float()
            return ((states * mask).sum(1) / mask.sum(1)).cpu().numpy()
