"""Workers of this machine, each with a GPU of its own; what dask-cuda does, without what it needs."""

from collections.abc import Sequence
from typing import Any

from distributed import LocalCluster


class LocalGpus(LocalCluster):
    """A LocalCluster with one worker a GPU, which sees that GPU alone and calls it `cuda`.

    Args:
        gpus: one name a worker, as CUDA_VISIBLE_DEVICES has it. A worker that is started anew keeps its GPU.
    """

    def __init__(self, gpus: Sequence[str], **options: Any) -> None:
        self._gpus = tuple(gpus)
        super().__init__(n_workers=0, **options)
        self.scale(len(self._gpus))
        self.sync(self._correct_state)  # n_workers would have started them here

    def new_worker_spec(self) -> dict[Any, Any]:
        """The next worker, by its number: LocalCluster's, with a GPU in its environment."""
        ((number, spec),) = super().new_worker_spec().items()
        own = {**(spec["options"].get("env") or {}), "CUDA_VISIBLE_DEVICES": self._gpus[number]}
        return {number: {**spec, "options": {**spec["options"], "env": own}}}
