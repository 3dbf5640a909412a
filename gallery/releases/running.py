"""How a release is run: by which stage, in which mode, by which engine; and what it costs.

Fast mode is chosen by asking for a check: a worker compares it with exact mode, and only when their tags agree the
release becomes fast. Each kind of device that a living worker computes on is checked by one of these, and a worker
whose own engine did not pass goes on exactly. Workers look at the row before each batch, so that a choice counts
within moments.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from gallery import tagging
from gallery.models import Profile, Release
from gallery.worker import workers

Stage, Mode, Engine = Release.Stage, Release.Mode, Release.Engine
CHECKING = "checking"
_PATIENCE = timedelta(minutes=20)  # a check that takes longer died with its worker
_STORED_BITS = {"float32": 32, "float16": 16, "bfloat16": 16}


class RunError(ValueError):
    """A choice that this release doesn't have; the text is one sentence for the person."""


@dataclass(frozen=True)
class Ways:
    """What can be chosen for a release, beside the mode, which can be asked for always."""

    stages: list[str]
    engines: list[str]


def ways(release: Release) -> Ways:
    """Only our own model has two stages, and only other people's run by an engine of choice."""
    if release.config.get("kind") == "onnx":
        return Ways([Stage.REFINED], list(Engine.values))
    if release.config.get("kind") == "vit":
        return Ways([Stage.REFINED], [Engine.AUTO])
    full = release.config.get("architecture", {}).get("stages") != "initial"
    return Ways([Stage.REFINED, Stage.INITIAL] if full else [Stage.INITIAL], [Engine.AUTO])


@transaction.atomic
def choose(release: Release, stage: str, mode: str, engine: str) -> None:
    """Run it so from now on; fast mode only once its check has passed. Raises RunError or ReleaseError."""
    release = Release.objects.select_for_update().get(pk=release.pk)
    there = ways(release)
    if stage not in there.stages or engine not in there.engines or mode not in Mode.values:
        raise RunError(f"{release.title} can't be run so: choose again.")
    if mode == Mode.FAST and engine == Engine.ONNXRUNTIME:
        raise RunError("Fast mode of an ONNX model runs with OpenVINO: choose that, or leave the engine to the site.")
    if other_stage := stage != release.stage:
        _take_thresholds(release, stage)
        release.gate = {}  # what a check found is of one stage
    release.stage, release.engine = stage, engine
    if mode == Mode.EXACT:
        release.mode = mode
        release.gate = {} if is_checked(release) else release.gate
    elif other_stage or (release.mode != mode and not is_checked(release)):
        release.mode = Mode.EXACT
        release.gate = {"state": CHECKING, "since": timezone.now().isoformat(), "asked": _devices(), "results": []}
        transaction.on_commit(lambda: _ask(release))
    release.save(update_fields=["stage", "engine", "mode", "gate"])


def _take_thresholds(release: Release, stage: str) -> None:
    """The release's profiles have the thresholds that were measured for this stage."""
    shipped = tagging.site_profiles(tagging.read_release(release.path).thresholds, stage)
    for profile in shipped:
        Profile.objects.filter(owner=None, release=release, key=profile.key).update(
            overall=profile.overall, by_category=profile.by_category
        )


def is_checked(release: Release) -> bool:
    """Whether a check of its fast mode is under way."""
    return release.gate.get("state") == CHECKING


def _devices() -> list[str]:
    """On which devices it is to be checked: those of living workers that may be fast; else any says why it can't."""
    living = {queue for worker in workers.alive() for queue in worker.queues}
    return [device for device in tagging.FAST_DEVICES if tagging.queue_of(device) in living]


def _ask(release: Release) -> None:
    queues = [tagging.queue_of(device) for device in release.gate["asked"]] or [tagging.QUEUE]
    sent = [tagging.send("check_fast", release.pk, queue=queue) for queue in queues]
    if not all(sent):
        _give_up(release, "No worker could be reached: see that Redis runs, then ask again.")


def check(release_id: int) -> bool:
    """What the worker does: compare the modes and keep the outcome; whether the release is fast now."""
    release = Release.objects.filter(pk=release_id, gate__state=CHECKING).first()
    if release is None:
        return False
    device = tagging.device()
    try:
        outcome = tagging.check_fast(release)
    except tagging.ReleaseError as error:
        outcome = {"passed": False, "reason": str(error)}
    except Exception as error:
        _conclude(release, {"passed": False, "reason": f"The check broke off: {error}"}, device)
        raise
    return _conclude(release, outcome, device)


def _give_up(release: Release, sentence: str) -> None:
    """End a check with what came of it so far, of those who did not answer with this sentence."""
    _conclude(release, {"passed": False, "reason": sentence}, *release.gate.get("asked", []))


@transaction.atomic
def _conclude(release: Release, outcome: dict[str, Any], *devices: str) -> bool:
    """Keep what was found on these devices, and after the last of those asked end the check; whether it is fast now.

    Unless somebody chose otherwise while it was checked.
    """
    row = Release.objects.select_for_update().get(pk=release.pk)
    gate = row.gate
    if not is_checked(row) or gate["since"] != release.gate["since"]:
        return False
    results = [*gate.get("results", []), outcome]
    asked = [device for device in gate.get("asked", []) if device not in devices]
    row.gate = {**gate, "asked": asked, "results": results}
    if not asked:
        best = next((result for result in results if result["passed"]), results[0])
        row.mode = Mode.FAST if best["passed"] else Mode.EXACT
        row.gate = {**best, "state": "done", "at": timezone.now().isoformat(), "results": results}
    row.save(update_fields=["mode", "gate"])
    return not asked and row.mode == Mode.FAST


def sweep() -> int:
    """Give up checks whose worker died; returns how many."""
    given_up = 0
    for release in Release.objects.filter(gate__state=CHECKING).defer(*Release.bulk()):
        if timezone.now() - datetime.fromisoformat(release.gate["since"]) > _PATIENCE:
            _give_up(release, "The check did not come to an end: ask for it again.")
            given_up += 1
    return given_up


@dataclass(frozen=True)
class Facts:
    """What a release costs and what runs it. Sizes in bytes; 0 where the folder is gone.

    `memory` is computed from the weights' size; `living` are the workers that hold the model now, who measured it.
    """

    disk: int
    memory: int
    kind: str
    engine: str
    living: list[workers.Worker]


def facts(release: Release, living: list[workers.Worker] | None = None) -> Facts:
    """Read from its folder, its config and what the living workers say."""
    files = release.path.rglob("*") if release.folder else ()
    sizes = {path.name: path.stat().st_size for path in files if path.is_file()}
    holding = [
        worker
        for worker in (workers.alive() if living is None else living)
        if worker.held and worker.held.release_id == release.pk
    ]
    weights = release.config.get("weights", {})
    other = release.config.get("kind") == "onnx"
    # In exact mode the worker computes in 32 bits, whatever the weights are stored in.
    bits = 16 if release.mode == Mode.FAST else 32
    stored = sizes.get(weights.get("file", ""), 0)
    usual = "vision transformer of JoyTag" if release.config.get("kind") == "vit" else "unknown"
    backbone = release.config.get("architecture", {}).get("backbone", usual)
    return Facts(
        disk=sum(sizes.values()),
        memory=stored * bits // _STORED_BITS.get(weights.get("dtype"), bits),
        kind="ONNX model of another project" if other else str(backbone),
        engine=holding[0].held.engine if holding and holding[0].held else _usual_engine(release, other),
        living=holding,
    )


def _usual_engine(release: Release, other: bool) -> str:
    """What runs it when it is loaded the next time, as far as the row says."""
    if not other:
        return "torch"
    if release.engine != Engine.AUTO:
        return release.engine
    return Engine.OPENVINO if release.mode == Mode.FAST else Engine.ONNXRUNTIME
