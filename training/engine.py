"""DeepSpeed, in this one module: optimiser steps, precision, checkpoints. Runs on a CPU in one plain process.

Plain `python -m training.train ...` starts one process; `torchrun --nproc_per_node 2 -m training.train ...` (with
--run-folder for --run) or `deepspeed --num_gpus 2 --module training.train ...` start several. An optimiser step holds
the same pictures on any number of processes: they share its micro-batches where those divide evenly, and the pictures
of each where not.
"""

import atexit
import contextlib
import gc
import logging
import os
import pickle
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed
from torch import Tensor, nn

from training import config
from training.deepspeed_config import Groups, deepspeed_config
from training.run import RunError, first_line, replace_text

ALONE = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}


def quiet_deepspeed() -> Any:
    """Imports DeepSpeed without its many lines on the console."""
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    import deepspeed

    deepspeed.utils.logger.setLevel(logging.ERROR)
    # otherwise the first start compiles a C++ helper for a minute, and fails where there is no compiler
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def join_processes(deepspeed: Any) -> None:
    """Without these variables DeepSpeed asks for MPI; a launcher sets them itself."""
    if "RANK" not in os.environ:
        os.environ.update(ALONE, MASTER_PORT=str(free_port()))
    if not torch.distributed.is_initialized():
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        deepspeed.init_distributed(dist_backend=backend, verbose=False)
        atexit.register(torch.distributed.destroy_process_group)


def own_device() -> torch.device:
    """This process's card, made the one that it uses; or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


def free_memory() -> None:
    """What nobody refers to any more goes back to the system, of a card too."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def choose_precision(name: str, device: torch.device) -> str:
    if name != "auto":
        return name
    return "bf16" if device.type == "cuda" else "fp32"


@dataclass(frozen=True)
class Sharing:
    """How several processes share an optimiser step."""

    width: int  # micro-batches taken at once, one by each process; 1 when each takes a part of every micro-batch
    accumulate: int  # micro-batches of each process in an optimiser step
    parts: int  # processes that share one micro-batch

    @classmethod
    def of(cls, train: config.Train, processes: int) -> "Sharing":
        """Raises RecipeError when neither micro-batches nor their pictures divide."""
        if train.accumulate % processes == 0:
            return cls(processes, train.accumulate // processes, 1)
        config.demand(
            train.batch_size % processes == 0,
            f"Neither train.accumulate ({train.accumulate}) nor train.batch_size ({train.batch_size}) divides by the "
            f"{processes} processes; change one of them.",
        )
        return cls(1, train.accumulate, processes)


def engine_keeps_layout(recipe: config.Recipe) -> bool:
    """ZeRO flattens weights from stage 1 on. Channels last, the fastest on a CPU, is set after DeepSpeed's start,
    because its first broadcast takes no such tensor."""
    return recipe.engine.zero_stage == 0


class Engine:
    """One network with its optimiser. `step` follows `backward` for each micro-batch; DeepSpeed counts accumulation."""

    def __init__(self, network: nn.Module, groups: Groups, recipe: config.Recipe, steps_an_epoch: int = 1) -> None:
        """`groups` are AdamW's parameter groups; each needs `lr`, its highest rate. Steps are micro-batches."""
        deepspeed = quiet_deepspeed()
        self.alone = "RANK" not in os.environ
        join_processes(deepspeed)
        self.rank, self.world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
        self.sharing = Sharing.of(recipe.train, self.world_size)
        self.device = own_device()
        self.precision = choose_precision(recipe.engine.precision, self.device)
        self.dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[self.precision]
        # torch's own optimiser: DeepSpeed's would be compiled first
        optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.999), fused=True)
        self.highest = [group["lr"] for group in optimizer.param_groups]
        self.settings = deepspeed_config(recipe, self.precision, self.sharing, self.highest, steps_an_epoch)
        self.schedules = "scheduler" in self.settings
        self.engine, self.optimizer, _, _ = deepspeed.initialize(
            model=network,
            model_parameters=[p for group in groups for p in group["params"]],
            optimizer=optimizer,
            config=self.settings,
        )
        self.network = self.engine.module
        if engine_keeps_layout(recipe):
            self.network.to(memory_format=torch.channels_last)

    def __call__(self, *inputs: Any) -> Any:
        return self.engine(*inputs)

    def set_rate(self, share: float) -> None:
        """The learning rate of every group as a share of its highest, unless DeepSpeed's own schedule sets it."""
        if self.schedules:
            return
        for group, highest in zip(self.optimizer.param_groups, self.highest, strict=True):
            group["lr"] = highest * share

    @property
    def rate(self) -> float:
        return float(self.optimizer.param_groups[-1]["lr"])

    @property
    def loss_scale(self) -> float | None:
        if self.precision != "fp16":
            return None
        return float(self.optimizer.loss_scale)  # the engine's own says 0 where the scale moves

    def step(self, loss: Tensor) -> None:
        self.engine.backward(loss)
        self.engine.step()

    def step_without(self, loss: Tensor) -> None:
        """A step whose gradients are zero whatever the loss holds, for a micro-batch that is skipped.

        It goes the same way through the network as the others': with ZeRO's stage 3 they gather weights on it together.
        """
        trained = [p for p in self.network.parameters() if p.requires_grad]
        hooks = [p.register_hook(torch.zeros_like) for p in trained]
        try:
            self.engine.backward(loss)
        finally:
            for hook in hooks:
                hook.remove()
        self.engine.step()

    def whole_weights(self) -> contextlib.AbstractContextManager[None]:
        """Within it every process holds all weights, which ZeRO's stage 3 keeps in parts."""
        if self.settings["zero_optimization"]["stage"] < 3:
            return contextlib.nullcontext()
        import deepspeed

        return deepspeed.zero.GatheredParameters(list(self.network.parameters()))

    # between processes

    def total(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.world_size > 1:
            torch.distributed.all_reduce(tensor)
        return tensor

    def total_array(self, array: np.ndarray) -> np.ndarray:
        return self.total(torch.from_numpy(array).to(self.device)).cpu().numpy() if self.world_size > 1 else array

    def copy_first(self, tensors: list[Tensor]) -> None:
        """The first process's values in all processes."""
        if self.world_size > 1:
            for tensor in tensors:
                torch.distributed.broadcast(tensor, 0)

    def first_says(self, *values: float) -> list[float]:
        """The first process's numbers in all processes."""
        if self.world_size == 1:
            return list(values)
        told = torch.tensor(values, dtype=torch.float64, device=self.device)
        self.copy_first([told])
        return told.tolist()

    def wait(self) -> None:
        """Until every process is here."""
        if self.world_size > 1:
            torch.distributed.barrier()

    # checkpoints

    def save(self, folder: Path, name: str, state: dict[str, Any]) -> None:
        """A checkpoint `folder/name`; earlier ones go when it is complete. Every process calls it.

        The file `latest` names the complete one and is replaced whole: a kill at any moment leaves one that loads.
        """
        self.engine.save_checkpoint(str(folder), tag=name, client_state={"run": state}, save_latest=False)
        self.wait()
        if self.rank == 0:
            replace_text(folder / "latest", name)
            for old in folder.glob("step-*"):
                if old.name != name:
                    shutil.rmtree(old, ignore_errors=True)

    def load(self, folder: Path) -> dict[str, Any] | None:
        """The state saved with the newest complete checkpoint, its weights and optimiser loaded; None without one.

        Raises RunError for one that is damaged.
        """
        if not (folder / "latest").exists():
            return None
        name = (folder / "latest").read_text().strip()
        try:
            path, state = self.engine.load_checkpoint(str(folder), tag=name)
        except (OSError, RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
            raise RunError(
                f"The checkpoint {folder / name} cannot be read ({first_line(error)}); remove {folder / 'latest'}, and "
                "the same command takes the steps anew."
            ) from error
        return state["run"] if path else None

    def close(self) -> None:
        """Gives up DeepSpeed's own memory, and leaves no variables to programs started later. The group itself lives
        as long as the process: DeepSpeed remembers the first one, so a second would not be known to it."""
        self.engine.destroy()
        if self.alone:
            for name in (*ALONE, "MASTER_PORT"):
                os.environ.pop(name, None)
