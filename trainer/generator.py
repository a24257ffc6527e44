"""The generator that leaves the house: everything from text vectors and noise to pictures, with what built it."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from store import params
from store.errors import ChatPainterError
from store.files import replacing
from trainer.config import ModelConfig
from trainer.networks.blocks import initialise
from trainer.networks.stage1 import Painted, Stage1Generator
from trainer.networks.stage2 import Stage2Generator
from trainer.networks.text import DialogueEncoder, Standardise, text_dim

METADATA = "chatpainter-generator"  # one key only: safetensors writes several in any order


class Generator(nn.Module):
    """Text vectors and noise → pictures of stage 1, and of stage 2 when it holds one.

    `settings` is plain JSON: `stage` (1 or 2), `model` (ModelConfig), `caption_dim`, `dialogue_dim`, and whatever
    the training run adds (stores' identities, training configuration, images seen).

    Keys under `stage1.` / `stage2.` equal StackGAN-Pytorch's `netG` of that stage.
    """

    def __init__(self, settings: dict[str, Any]):
        super().__init__()
        self.settings = settings
        model = params.build(ModelConfig, settings["model"], "model")
        self.model = model
        self.noise_dim, self.condition_dim, self.dialogue = model.noise_dim, model.condition_dim, model.dialogue
        self.stage = int(settings["stage"])
        caption_dim, dialogue_dim = int(settings["caption_dim"]), settings["dialogue_dim"]
        self.text_dim = width = text_dim(model.dialogue, caption_dim, dialogue_dim, model.lstm_hidden)
        self.standardise = nn.ModuleDict()
        if model.standardise:
            self.standardise["captions"] = Standardise(caption_dim)
            if model.dialogue != "none":
                self.standardise["dialogues"] = Standardise(dialogue_dim)
        self.dialogue_encoder = (
            DialogueEncoder(dialogue_dim, model.lstm_hidden) if model.dialogue == "recurrent" else None
        )
        if self.stage == 1:
            self.stage1 = Stage1Generator(model, width)
            self.stage1.apply(initialise)
        else:
            self.stage2 = Stage2Generator(model, width)
            self.stage2.apply(initialise)

    @property
    def painter(self) -> Stage1Generator | Stage2Generator:
        """The stage's own network."""
        return self.stage1 if self.stage == 1 else self.stage2

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(self.model.side(stage) for stage in range(1, self.stage + 1))

    def encode_text(self, captions: Tensor, dialogues: Tensor | None = None, rounds: Tensor | None = None) -> Tensor:
        """captions (B, dc); dialogues (B, dd) or turns (B, T, dd) with rounds (B,); any float dtype → (B, text)."""
        captions = self.standardise["captions"](captions) if self.model.standardise else captions.float()
        if self.model.dialogue == "none":
            return captions
        if dialogues is None:
            raise ValueError(f"a generator trained with dialogue: {self.model.dialogue} needs the dialogues' vectors")
        dialogues = self.standardise["dialogues"](dialogues) if self.model.standardise else dialogues.float()
        if self.dialogue_encoder is not None:
            if rounds is None:
                rounds = torch.full((len(dialogues),), dialogues.shape[1], device=dialogues.device)
            dialogues = self.dialogue_encoder(dialogues, rounds.to(dialogues.device, non_blocking=True))
        return torch.cat([captions, dialogues.float()], 1)

    def forward(
        self,
        captions: Tensor,
        dialogues: Tensor | None = None,
        rounds: Tensor | None = None,
        *,
        noise: Tensor,
        condition_noise: Tensor | None = None,
    ) -> dict[int, Tensor]:
        """Pictures by size, each (B, 3, s, s) in [-1, 1].

        noise (B, noise_dim); condition_noise (B, condition_dim), used in each stage, or None to paint the mean
        condition. captions, dialogues and rounds as in `encode_text`.
        """
        text = self.encode_text(captions, dialogues, rounds)
        if self.stage == 1:
            return {self.sizes[0]: cast(Painted, self.stage1(text, noise, condition_noise)).picture}
        painted = cast(Painted, self.stage2(text, noise, condition_noise, condition_noise))
        return dict(zip(self.sizes, (cast(Tensor, painted.stage1), painted.picture)))

    def save(self, path: str | Path) -> None:
        """Write a safetensors file, atomically; `settings` go into its metadata as JSON."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {
            name: tensor.detach().cpu().contiguous()
            for name, tensor in self.state_dict().items()
            if not name.endswith("num_batches_tracked")
        }
        with replacing(path) as temporary:
            save_file(tensors, temporary, {METADATA: json.dumps(self.settings, sort_keys=True)})

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu") -> "Generator":
        """The generator in the file at `path`, in eval mode.

        Raises:
            ChatPainterError: there is no such file, or it was not written by `save`, or it is damaged.
        """
        path = Path(path)
        if not path.is_file():
            raise ChatPainterError(f"{path}: no such generator; train one with chatpainter-train, or name its file")
        try:
            with safe_open(path, "pt", device=str(device)) as file:
                metadata = file.metadata() or {}
                if METADATA not in metadata:
                    raise ChatPainterError(f"{path}: not a ChatPainter generator (written by chatpainter-train)")
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            # Not on the meta device: drawing weights there makes torch import its compiler, 7 s before a first picture.
            with torch.random.fork_rng(devices=[]):
                generator = cls(json.loads(metadata[METADATA]))
            missing, unexpected = generator.load_state_dict(tensors, strict=False, assign=True)
            missing = [name for name in missing if not name.endswith("num_batches_tracked")]
            if missing or unexpected:
                raise ChatPainterError(f"{path}: damaged: lacks {missing[:3]}, has unknown {unexpected[:3]}")
        except (SafetensorError, RuntimeError, KeyError, ValueError) as error:
            raise ChatPainterError(f"{path}: damaged or not a safetensors file ({error}); write it again") from None
        for module in generator.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.num_batches_tracked = torch.zeros((), dtype=torch.long, device=device)
        return generator.eval()


def to_uint8(pictures: Tensor) -> Tensor:
    """(B, 3, s, s) in [-1, 1] → (B, s, s, 3) uint8, rounded."""
    return ((pictures.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def settings(stage: int, model: ModelConfig, caption_dim: int, dialogue_dim: int | None, **more: Any) -> dict[str, Any]:
    """The least that builds a Generator, and `more` beside it."""
    return {"stage": stage, "model": asdict(model), "caption_dim": caption_dim, "dialogue_dim": dialogue_dim, **more}
