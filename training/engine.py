"""DeepSpeed, in this one module: optimiser steps, precision, checkpoints. Runs on a CPU in one plain process.

Plain `python` starts one process; `torchrun --nproc_per_node 2 -m training.train ...` or DeepSpeed's own launcher
starts several, which share each step's batch.
"""

import atexit
import logging
import os
import shutil
import socket
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn

from training import config

Groups = list[dict[str, Any]]
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


def choose_precision(name: str, device: torch.device) -> str:
    if name != "auto":
        return name
    return "bf16" if device.type == "cuda" else "fp32"


def settings(recipe: config.Recipe, precision: str) -> dict[str, Any]:
    """What a DeepSpeed configuration file would hold."""
    engine = recipe.engine
    values: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": recipe.train.batch_size,
        "gradient_accumulation_steps": recipe.train.accumulate,
        "gradient_clipping": engine.gradient_clipping,
        "zero_optimization": {"stage": engine.zero_stage},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 10**9,
        "wall_clock_breakdown": False,
    }
    if precision == "bf16":
        values["bf16"] = {"enabled": True}
    if precision == "fp16":
        values["fp16"] = {"enabled": True, "initial_scale_power": engine.initial_scale_power}
    return values


def engine_keeps_layout(recipe: config.Recipe) -> bool:
    """ZeRO flattens weights from stage 1 on. Channels last, the fastest on a CPU, is set after DeepSpeed's start,
    because its first broadcast takes no such tensor."""
    return recipe.engine.zero_stage == 0


class Engine:
    """One network with its optimiser. `step` follows `backward` for each micro-batch; DeepSpeed counts accumulation."""

    def __init__(self, network: nn.Module, groups: Groups, recipe: config.Recipe) -> None:
        """`groups` are AdamW's parameter groups; each needs `lr`, its highest rate."""
        deepspeed = quiet_deepspeed()
        self.alone = "RANK" not in os.environ
        join_processes(deepspeed)
        local = int(os.environ.get("LOCAL_RANK", "0"))
        self.device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
        self.precision = choose_precision(recipe.engine.precision, self.device)
        self.dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[self.precision]
        # torch's own optimiser: DeepSpeed's would be compiled first
        optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.999), fused=True)
        self.highest = [group["lr"] for group in optimizer.param_groups]
        self.engine, self.optimizer, _, _ = deepspeed.initialize(
            model=network,
            model_parameters=[p for group in groups for p in group["params"]],
            optimizer=optimizer,
            config=settings(recipe, self.precision),
        )
        self.network = self.engine.module
        if engine_keeps_layout(recipe):
            self.network.to(memory_format=torch.channels_last)
        self.rank = torch.distributed.get_rank()
        self.world_size = torch.distributed.get_world_size()

    def __call__(self, *inputs: Any) -> Any:
        return self.engine(*inputs)

    def set_rate(self, share: float) -> None:
        """The learning rate of every group as a share of its highest."""
        for group, highest in zip(self.optimizer.param_groups, self.highest, strict=True):
            group["lr"] = highest * share

    def step(self, loss: Tensor) -> None:
        self.engine.backward(loss)
        self.engine.step()

    def save(self, folder: Path, name: str, state: dict[str, Any]) -> None:
        """A checkpoint `folder/name`; earlier ones go when it is complete. Every process calls it."""
        self.engine.save_checkpoint(str(folder), tag=name, client_state={"run": state})
        if self.rank == 0:
            for old in folder.glob("step-*"):
                if old.name != name:
                    shutil.rmtree(old, ignore_errors=True)

    def load(self, folder: Path) -> dict[str, Any] | None:
        """The state saved with the newest complete checkpoint, its weights and optimiser loaded; None without one."""
        if not (folder / "latest").exists():
            return None
        path, state = self.engine.load_checkpoint(str(folder))
        return state["run"] if path else None

    def close(self) -> None:
        """Leaves no variables to programs started later. The group itself lives as long as the process: DeepSpeed
        remembers the first one, so a second would not be known to it."""
        if self.alone:
            for name in (*ALONE, "MASTER_PORT"):
                os.environ.pop(name, None)
