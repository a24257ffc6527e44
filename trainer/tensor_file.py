"""Files that torch.save wrote, read as tensors and plain values alone: nothing in them can run.

`load` is for our own. Published files of 2017 to 2019 are older: DataParallel's `module.` before every key, no
`num_batches_tracked`, numbers of numpy, an argparse.Namespace, the first layout of spectral norm. `read_state` and
`load_published` read those; whatever else a pickle may name is refused, in one line.
"""

import argparse
import re
import struct
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.serialization import safe_globals

from store.errors import ChatPainterError, one_line
from store.files import in_words, replacing

M = TypeVar("M", bound=nn.Module)
PREFIX = "module."
COUNTER = "num_batches_tracked"
_FORBIDDEN = re.compile(r"(?:GLOBAL|Unsupported (?:class|type):?) ([\w.]+)")
_INSTRUCTION = re.compile(r"Unsupported operand (\d+)")


class PublishedState(NamedTuple):
    """A published state_dict, as modules of today take it.

    Attributes:
        tensors: by name, in the file's order, without `module.` and without counters.
        origin: plain JSON; with it `write_state` writes the file as it was.
    """

    tensors: dict[str, Tensor]
    origin: dict[str, Any]


def load(path: str | Path, what: str, device: str | torch.device = "cpu") -> Any:
    """What torch.save wrote to `path`.

    torch's own messages advise to try again with `weights_only=False`, which would run what the file holds: they are
    never passed on.

    Args:
        what: it should be, for people: "a checkpoint of tensors and plain values".

    Raises:
        ChatPainterError: there is no such file, it is damaged, or holds more than tensors and plain values.
    """
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except OSError as error:
        raise ChatPainterError(f"{path}: cannot be read ({error.strerror or error})") from None
    except Exception as error:
        raise ChatPainterError(f"{path}: not {what} ({_reason(Path(path), error)})") from None


def load_published(path: str | Path, what: str) -> Any:
    """As `load`, of a published file: numpy's numbers become Python's, a defaultdict a dict, a Namespace stays one.

    Raises:
        ChatPainterError: as `load`; anything else that the file names is refused.
    """
    with safe_globals(_HARMLESS):
        return load(path, what)


def read_state(path: str | Path, what: str = "a file of tensors alone") -> PublishedState:
    """The state_dict in a published file, also one in a checkpoint that holds it as `state_dict`.

    Raises:
        ChatPainterError: as `load`; or it is no mapping of names to whole tensors.
    """
    found = load_published(path, what)
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]  # of a trainer that keeps its epoch beside it
    return state_of(found, path)


def state_of(found: Any, path: str | Path) -> PublishedState:
    """The state_dict `found` within what `load_published` gave of `path`.

    Raises:
        ChatPainterError: it is no mapping of names to whole tensors.
    """
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise ChatPainterError(f"{path}: expected a state_dict, a mapping of names to tensors")
    for name, value in found.items():
        if not isinstance(value, Tensor):
            raise ChatPainterError(f"{path}: expected a state_dict, a mapping of names to tensors; {name} is none")
        if not _whole(value):
            raise ChatPainterError(f"{path}: {name} is no plain tensor with all its values; fetch the file again")
    prefix = PREFIX if found and all(name.startswith(PREFIX) for name in found) else ""
    bare = {name.removeprefix(prefix): value.detach() for name, value in found.items()}
    counts = {name.removesuffix(COUNTER): int(v) for name, v in bare.items() if _is_counter(name, v)}
    tensors = {name: value for name, value in bare.items() if not _is_counter(name, value)}
    # Of a training all counters are the same; those of a module that ran several times a step are not.
    alike = next(iter(counts.values())) if len(set(counts.values())) == 1 else counts
    return PublishedState(tensors, {"file": Path(path).name, "prefix": prefix, "counters": alike if counts else None})


def write_state(
    module: nn.Module, path: str | Path, origin: Mapping[str, Any] | None = None, *, prefix: str = ""
) -> None:
    """Write a module's state_dict as files of its time are, atomically.

    Args:
        origin: of the file that the module came from: prefix and counters become what they were there.
        prefix: before every key, of a module that came from no file; its counters are left out.

    Raises:
        ChatPainterError: `origin` fits no file, or not this module.
        StoreError: the folder cannot be written.
    """
    write(published_state(module, path, {"prefix": prefix} if origin is None else origin), path)


def published_state(module: nn.Module, path: str | Path, origin: Mapping[str, Any]) -> dict[str, Tensor]:
    """A module's state_dict as `write_state` writes it, for files that hold more.

    Raises:
        ChatPainterError: as `write_state`; it names `path`.
    """
    state = {}
    prefix, counters = _layout(origin)
    for name, value in module.state_dict().items():
        if name.endswith(COUNTER):
            if counters is None:
                continue
            count = counters if isinstance(counters, int) else counters.get(name.removesuffix(COUNTER))
            if count is None:
                raise ChatPainterError(f"{path}: not written: the file it came from had no {name}")
            value = torch.tensor(count)
        state[prefix + name] = value.detach().cpu().contiguous()
    return state


def write(content: Mapping[str, Any], path: str | Path) -> None:
    """torch.save, atomically.

    Raises:
        StoreError: the folder cannot be written.
    """
    path = Path(path)
    with in_words(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            torch.save(content, temporary)


def build(make: Callable[[], M], tensors: Mapping[str, Tensor], part: Callable[[M], nn.Module] = lambda m: m) -> M:
    """What `make` makes, with `tensors` as all weights of its `part`.

    It is made without memory first: no size that a file states takes any before every tensor has borne it out.

    Raises:
        ValueError: names are missing or unknown, or a shape or dtype differs; says which.
    """
    with torch.device("meta"), NothingDrawn():
        _check(part(make()), tensors)
    made = make()
    part(made).load_state_dict(tensors, strict=False)
    return made


class NothingDrawn(TorchFunctionMode):
    """Initial values are passed over: they are on their way out, and drawing on meta imports torch's compiler (7 s)."""

    _DRAWN = frozenset({Tensor.normal_, Tensor.uniform_, Tensor.zero_, Tensor.fill_})

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in self._DRAWN:
            return args[0]
        if getattr(func, "__module__", None) == "torch.nn.init":  # what it calls in turn would not pass here
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def fit(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load `tensors` into `module`, whose names and shapes they must be, counters apart.

    Raises:
        ValueError: as `build`.
    """
    _check(module, tensors)
    module.load_state_dict(tensors, strict=False)


def _check(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    mine = module.state_dict()
    missing = [name for name in mine if name not in tensors and not name.endswith(COUNTER)]
    unknown = [name for name in tensors if name not in mine]
    if missing or unknown:
        parts = [f"lacks {', '.join(missing[:2])}"] * bool(missing) + [f"has unknown {', '.join(unknown[:2])}"] * bool(
            unknown
        )
        raise ValueError(" and ".join(parts))
    for name, value in tensors.items():
        if value.shape != mine[name].shape or value.dtype != mine[name].dtype:
            raise ValueError(
                f"{name} is {_kind(value)} of shape {tuple(value.shape)}, not {_kind(mine[name])} of "
                f"{tuple(mine[name].shape)}"
            )


MISFITS = (KeyError, ValueError, RuntimeError, IndexError, TypeError, ZeroDivisionError)
"""What reading sizes off tensors that are not those of the expected network raises."""


def misfit(error: BaseException) -> str:
    """One of MISFITS in words."""
    if isinstance(error, KeyError):
        return f"its state_dict lacks {error.args[0]}"
    return one_line(error) or type(error).__name__


def with_both_vectors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state_dict whose spectral norms are of torch 0.4.1 as those of torch 1.0 and later.

    Then a norm kept the weight as given (`weight_orig`), as divided (`weight`) and one singular vector (`weight_u`);
    since then both vectors (`weight_u`, `weight_v`), of which the divisor u·Wv follows. v is chosen so that the
    divisor is the file's. What is not of a spectral norm, or of today's, stays as it is.

    Raises:
        ValueError: the divided weight is missing, or not the given one divided.
    """
    found = dict(tensors)
    for name, given in tensors.items():
        if not name.endswith("_orig") or f"{name.removesuffix('_orig')}_v" in tensors:
            continue
        base = name.removesuffix("_orig")
        divided, u = found.pop(base, None), tensors.get(f"{base}_u")
        if divided is None or u is None or divided.shape != given.shape or u.shape != given.shape[:1]:
            raise ValueError(f"{name} has no {base} and {base}_u beside it, from which its spectral norm would follow")
        matrix, d = given.double().flatten(1), divided.double().flatten(1)
        # Over all elements, as single ones may be zero.
        sigma = matrix.square().sum().sqrt() / d.square().sum().sqrt()
        if not torch.allclose(d * sigma, matrix, rtol=1e-3, atol=1e-5 * float(matrix.abs().max())):
            raise ValueError(f"{base} is not {name} divided by one number")
        v = torch.linalg.pinv(matrix) @ u.double()
        v = v * (sigma / (u.double() @ matrix @ v))
        found[f"{base}_v"] = v.to(given.dtype)
    return found


def _layout(origin: Mapping[str, Any]) -> tuple[str, int | Mapping[str, int] | None]:
    """Prefix and counters of a state's origin, which may come from a generator file that others wrote."""
    prefix, counters = origin.get("prefix", ""), origin.get("counters")
    values = counters.values() if isinstance(counters, Mapping) else () if counters is None else (counters,)
    if prefix not in ("", PREFIX) or not all(type(count) is int and 0 <= count < 1 << 63 for count in values):
        raise ChatPainterError("the generator's origin (prefix and counters of the file it came from) is damaged")
    return prefix, counters


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _is_counter(name: str, value: Tensor) -> bool:
    return name.endswith(COUNTER) and value.ndim == 0 and not value.is_floating_point()


def _whole(tensor: Tensor) -> bool:
    """Whether all its values are there: a few bytes can claim to be a tensor of any size, by strides of zero."""
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.layout != torch.strided or tensor.device.type != "cpu":
        return False
    return not tensor.is_quantized and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


_NUMBERS = {"f8": "d", "f4": "f", "f2": "e", "b1": "?", "i8": "q", "i4": "i", "i2": "h", "i1": "b"}
_NUMBERS |= {"u8": "Q", "u4": "I", "u2": "H", "u1": "B"}


class _Dtype:
    """numpy's dtype in a pickle: a code, and the order of bytes."""

    def __init__(self, code: Any = None, *_: Any) -> None:
        if code not in _NUMBERS:
            raise ValueError(f"a number of numpy's type {str(code)[:20]}")
        self.form, self.order = _NUMBERS[code], "<"

    def __setstate__(self, state: Any) -> None:
        self.order = ">" if state[1] == ">" else "<"


def _scalar(dtype: Any, data: Any) -> float | int | bool:
    """A number of numpy's as Python's."""
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes):
        raise ValueError("a number of numpy's that is none")
    value: float | int | bool = struct.unpack(dtype.order + dtype.form, data)[0]
    return value


def _plain_dict(*_: Any) -> dict[Any, Any]:
    """In place of a defaultdict, whose factory is not wanted any more."""
    return {}


def _factory(*_: Any) -> None:
    """In place of the `list` that a defaultdict names."""


_HARMLESS: list[Any] = [
    argparse.Namespace,
    (_Dtype, "numpy.dtype"),
    (_scalar, "numpy.core.multiarray.scalar"),
    (_scalar, "numpy._core.multiarray.scalar"),  # numpy 2 renamed it
    (_plain_dict, "collections.defaultdict"),
    (_factory, "builtins.list"),
]
"""What published pickles name beside tensors: our own functions stand in for numpy's, and nothing of a file's choice
is called."""


def _reason(path: Path, error: Exception) -> str:
    text = str(error)
    if found := _FORBIDDEN.search(text):
        return f"it holds {found[1]}, which is refused"
    if found := _INSTRUCTION.search(text):
        return f"its pickle holds instruction {found[1]}, which tensors and plain values do not need"
    with open(path, "rb") as file:
        head = file.read(2)
    if head == b"PK":
        return "damaged, or cut off while it was written or fetched"
    if tarfile.is_tarfile(path):
        return "a tar file, as torch wrote before 0.1.11; save it again with a torch of 0.2 to 1.13"
    if "weights_only" in text or "nickle" in text or not text.strip():
        return "damaged, or written by another program"
    return one_line(text)
