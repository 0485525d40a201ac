"""What a training left, in words: the trained network and the checkpoint. The rest of `tools.inspection`."""

from pathlib import Path
from typing import Any

import msgspec

from rt_engine.field.subject_file import file_sha256
from tools.inspection import Inspection
from trainer.trained_network_file import read_network
from trainer.training_checkpoint import EpochReport, read_checkpoint


def inspect_network(path: Path) -> Inspection:
    """Say what a trained network is; raises what reading it raises."""
    stored = read_network(path.parent, path.name)
    training = stored.training
    return Inspection(
        "trained network",
        path,
        {
            "model": stored.model,
            "form": stored.form,
            "muscles": list(training.muscles),
            "n_voxels": len(training.voxel),
            "box_shape": list(training.box_shape),
            "n_stimulations": len(training),
            "n_validation": len(stored.validation),
            "field_scale_v_per_m": round(training.field_scale_v_per_m * stored.field_factor, 4),
            "n_weights": sum(value.size for value in stored.weights.values()),
            "seconds": round(sum(report.seconds for report in stored.epochs), 1),
            **_settings(stored),
            "subject_sha256": training.subject_sha256,
            "sha256": file_sha256(path),
        },
        {"stages": _stages(stored.epochs, stored.ended)},
    )


def inspect_checkpoint(path: Path) -> Inspection:
    """Say where a training stands; raises what reading it raises."""
    checkpoint = read_checkpoint(path.parent, path.name)
    return Inspection(
        "training checkpoint",
        path,
        {
            "model": checkpoint.identity.get("model"),
            "form": checkpoint.identity.get("form"),
            "epochs_done": len(checkpoint.history),
            "steps_of_the_next": checkpoint.steps,
            "seconds": round(sum(report.seconds for report in checkpoint.history) + checkpoint.seconds, 1),
            "settings": checkpoint.identity,
            "sha256": file_sha256(path),
        },
        {"stages": _stages(checkpoint.history, {})},
    )


def _settings(stored: Any) -> dict[str, Any]:
    return {
        "architecture": msgspec.to_builtins(stored.architecture),
        "preprocessing": msgspec.to_builtins(stored.scaling.settings),
        "fitting": msgspec.to_builtins(stored.fitting),
    }


def _stages(epochs: tuple[EpochReport, ...], ended: dict[str, str]) -> list[dict[str, Any]]:
    last = {report.stage: report for report in epochs}
    return [
        {
            "stage": stage,
            "epochs": report.epoch,
            "ended": ended.get(stage, ""),
            "loss": float(f"{report.loss:.5g}"),
            "validation_nrmse": None if report.validation_nrmse is None else round(report.validation_nrmse, 4),
            "learning_rate": float(f"{report.learning_rate:.4g}"),
        }
        for stage, report in last.items()
    ]
