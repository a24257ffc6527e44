"""From a scene graph to a picture (google/sg2im, model.py and crn.py), modules named as in its files."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.feed.inputs import LENGTH, OBJECTS, TRIPLES, Input
from trainer.systems import Generator
from trainer.systems.sg2im.config import Networks
from trainer.systems.sg2im.display import shown
from trainer.systems.sg2im.graph import Graphs, GraphTripleConv, GraphTripleConvNet, join, mlp
from trainer.systems.sg2im.layout import layout


class Understood(NamedTuple):
    """What graphs say of their objects; o: objects, t: triples."""

    vectors: Tensor  # (o, gconv_dim)
    boxes: Tensor  # (o, 4): x0, y0, x1, y1 from 0 on, in no order
    masks: Tensor | None  # (o, m, m) logits; None: objects fill their boxes
    relations: Tensor | None  # (t, predicates) scores of what relates the boxes; None: not asked for


class SceneGraphNetwork(nn.Module):
    """sg2im's generator.

    Args:
        objects, predicates: how many classes there are, those that no object has included.
        sizes: widths of the layers.
    """

    def __init__(self, objects: int, predicates: int, sizes: Networks) -> None:
        super().__init__()
        self.sizes = sizes
        width, hidden, layers = sizes.gconv_dim, sizes.gconv_hidden_dim, sizes.gconv_num_layers
        self.obj_embeddings = nn.Embedding(objects + 1, sizes.embedding_dim)
        self.pred_embeddings = nn.Embedding(predicates, sizes.embedding_dim)
        self.gconv: nn.Module = (
            GraphTripleConv(sizes.embedding_dim, width, hidden, sizes.gconv_pooling)
            if layers
            else nn.Linear(sizes.embedding_dim, width)
        )
        self.gconv_net = GraphTripleConvNet(width, layers - 1, hidden, sizes.gconv_pooling) if layers > 1 else None
        self.box_net = mlp(width, hidden, 4)
        self.mask_net = mask_net(width, sizes.mask_size) if sizes.mask_size else None
        self.rel_aux_net = mlp(2 * sizes.embedding_dim + 8, hidden, predicates)
        self.refinement_net = RefinementNetwork(width + sizes.layout_noise_dim, sizes.refinement_dims)

    def understand(self, graphs: Graphs, relations: bool = False) -> Understood:
        """What the graphs say; `relations`: whether the relations of the boxes are asked for."""
        subject, predicate, object_ = graphs.triples.unbind(1)
        embedded = self.obj_embeddings(graphs.objects)
        if self.sizes.gconv_num_layers:
            vectors, said = self.gconv(embedded, self.pred_embeddings(predicate), subject, object_)
            if self.gconv_net is not None:
                vectors, said = self.gconv_net(vectors, said, subject, object_)
        else:
            vectors = self.gconv(embedded)
        boxes = self.box_net(vectors)
        masks = None if self.mask_net is None else self.mask_net(vectors[:, :, None, None])[:, 0]
        scores = None
        if relations:
            ends = [rows.index_select(0, end) for rows in (boxes, embedded) for end in (subject, object_)]
            scores = self.rel_aux_net(torch.cat(ends, 1))
        return Understood(vectors, boxes, masks, scores)

    def refine(self, graphs: Graphs, vectors: Tensor, boxes: Tensor, masks: Tensor | None, noise: Tensor) -> Tensor:
        """Pictures (b, 3, s, s) as ImageNet's networks see them, from boxes (o, 4) and masks (o, m, m) from 0 to 1.

        Args:
            noise: (b, layout_noise_dim, s, s).
        """
        drawn = layout(graphs, vectors, boxes, masks, (noise.shape[2], noise.shape[3]))
        return cast(Tensor, self.refinement_net(torch.cat([drawn, noise], 1)))

    def forward(
        self, graphs: Graphs, noise: Tensor, boxes: Tensor | None = None, masks: Tensor | None = None
    ) -> tuple[Tensor, Understood]:
        """Pictures, and what was understood; true boxes and masks, where given, are laid out in place of its own."""
        found = self.understand(graphs)
        if masks is None and found.masks is not None:
            masks = found.masks.sigmoid()
        if self.mask_net is None:
            masks = None
        return self.refine(graphs, found.vectors, found.boxes if boxes is None else boxes, masks, noise), found


class RefinementNetwork(nn.Module):
    """Cascaded refinement (Chen and Koltun, 2017): each module doubles the side and reads the layout again."""

    def __init__(self, layout_dim: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.refinement_modules = nn.ModuleList(
            RefinementModule(layout_dim, before, width) for before, width in zip((1, *widths), widths)
        )
        self.output_conv = nn.Sequential(
            nn.Conv2d(widths[-1], widths[-1], 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(widths[-1], 3, 1)
        )
        self.output_conv.apply(_initialise)

    def forward(self, drawn: Tensor) -> Tensor:
        """Layout (b, layout_dim, h, w), h and w multiples of 2^modules → (b, 3, h, w)."""
        halvings = len(self.refinement_modules)
        features = drawn.new_zeros(len(drawn), 1, drawn.shape[2] >> halvings, drawn.shape[3] >> halvings)
        for module in self.refinement_modules:
            features = module(drawn, F.interpolate(features, scale_factor=2, mode="nearest"))
        return cast(Tensor, self.output_conv(features))


class RefinementModule(nn.Module):
    """The layout, averaged down to the features' side, and the features → features of `width`."""

    def __init__(self, layout_dim: int, before: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs in (layout_dim + before, width):
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.BatchNorm2d(width), nn.LeakyReLU(0.2)]
        self.net = nn.Sequential(*layers)
        self.net.apply(_initialise)

    def forward(self, drawn: Tensor, features: Tensor) -> Tensor:
        """(b, layout_dim, H, W) and (b, before, h, w) → (b, width, h, w)."""
        factor = drawn.shape[2] // features.shape[2]
        if factor > 1:
            drawn = F.avg_pool2d(drawn, factor)
        return cast(Tensor, self.net(torch.cat([drawn, features], 1)))


def mask_net(width: int, side: int) -> nn.Sequential:
    """(o, width, 1, 1) → (o, 1, side, side) logits, side a power of two."""
    layers: list[nn.Module] = []
    for _ in range(side.bit_length() - 1):
        layers += [
            nn.Upsample(scale_factor=2, mode="nearest"),
            nn.BatchNorm2d(width),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers, nn.Conv2d(width, 1, 1))


class Sg2imGenerator(nn.Module, Generator):
    """See `trainer.systems.Generator`: what it reads is a graph, its noise lies beside the layout.

    `settings` holds `model` (the fields of `Networks`) and `vocabulary`: {"objects": [names], "predicates": [names]},
    whose places are the classes.
    """

    inputs: tuple[Input, ...] = (OBJECTS, TRIPLES)

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__()
        self.settings = settings
        self.sizes = Networks(**{**settings["model"], "refinement_dims": tuple(settings["model"]["refinement_dims"])})
        self.dims: dict[str, int] = {}  # it reads no vectors
        self.noise_dim = self.sizes.layout_noise_dim * self.sizes.side**2
        words = settings["vocabulary"]
        self.network = SceneGraphNetwork(len(words["objects"]), len(words["predicates"]), self.sizes)

    @property
    def names(self) -> dict[int, str]:
        """One side."""
        return {self.sizes.side: "picture"}

    def encode(self, texts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the graphs say of their objects, padded with zeros to the most of any graph.

        Returns:
            vectors (B, n, gconv_dim), boxes (B, n, 4), masks (B, n, m, m) from 0 to 1 (m is 0 without masks), and
            objects (B,): how many there are, `__image__` included.
        """
        graphs = graphs_of(texts)
        found = self.network.understand(graphs)
        masks = found.boxes.new_zeros(len(found.boxes), 0, 0) if found.masks is None else found.masks.sigmoid()
        rows = {"vectors": found.vectors, "boxes": found.boxes, "masks": masks}
        return {name: graphs.padded(one) for name, one in rows.items()} | {"objects": texts[OBJECTS.name + LENGTH]}

    def draw(
        self,
        encoded: Mapping[str, Tensor],
        noise: Tensor,
        condition_noise: Tensor | None = None,
        sides: Sequence[int] | None = None,
    ) -> dict[int, Tensor]:
        """Pictures by side, (B, 3, s, s) in [-1, 1]."""
        vectors, boxes, masks, count = (encoded[name] for name in ("vectors", "boxes", "masks", "objects"))
        there = torch.arange(vectors.shape[1], device=vectors.device) < count[:, None]
        image = there.nonzero()[:, 0]
        graphs = Graphs(image, image.new_zeros(0, 3), image, len(vectors))
        noise = noise.unflatten(1, (self.sizes.layout_noise_dim, self.sizes.side, self.sizes.side))
        painted = self.network.refine(
            graphs, vectors[there], boxes[there], masks[there] if masks.shape[2] else None, noise.to(vectors.dtype)
        )
        return {self.sizes.side: shown(painted.float(), self.sizes.rescale)}


def graphs_of(batch: Mapping[str, Tensor]) -> Graphs:
    """The graphs of a batch, with every relation that it holds."""
    triples, lengths = batch[TRIPLES.name], batch[TRIPLES.name + LENGTH]
    told = torch.arange(triples.shape[1], device=triples.device) < lengths[:, None]
    return join(batch[OBJECTS.name], batch[OBJECTS.name + LENGTH], triples, told)


def generator_settings(sizes: Networks, vocabulary: Mapping[str, Sequence[str]], **about: Any) -> dict[str, Any]:
    """Settings of a `Sg2imGenerator`; `about` are further ones, such as whose stores it was trained on."""
    names = {kind: list(vocabulary[kind]) for kind in ("objects", "predicates")}
    model = asdict(sizes) | {"refinement_dims": list(sizes.refinement_dims)}
    return {"system": "sg2im", "model": model, "vocabulary": names, **about}


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight)
