"""Turns results into messages. Pure: neither socket nor clock."""

import math
from typing import Any

import numpy as np

from rt_engine.channels import ChannelMap
from rt_engine.engine import PulseResult
from rt_engine.field.subject_file import Subject
from rt_engine.mep import MepCriteria, status_text
from rt_engine.messages import (
    Arrays,
    FieldAgreement,
    GeometryHeader,
    MapHeader,
    ModelDescription,
    SessionHeader,
    StreamDescription,
    TrialHeader,
)
from rt_engine.model_file import Model
from rt_engine.trial_assembler import SweepSettings


def session_message(
    model: Model,
    channels: ChannelMap,
    criteria: MepCriteria,
    sweep: SweepSettings,
    *,
    started_at: str,
    nominal_rate_hz: float,
    trigger_source: str,
    streams: list[StreamDescription],
    versions: dict[str, str],
    replay: bool,
) -> SessionHeader:
    """Return what a subscriber must know of the session."""
    return SessionHeader(
        started_at=started_at,
        muscles=list(channels.muscles),
        window_ms=[list(window) for window in criteria.window_ms],
        sweep_ms=[sweep.start_ms, sweep.end_ms],
        floor_uv=criteria.floor_uv,
        nominal_rate_hz=nominal_rate_hz,
        trigger_source=trigger_source,
        streams=streams,
        model=ModelDescription(
            name=model.info.name,
            kind=model.info.kind,
            sha256=model.info.sha256,
            muscles=list(model.info.muscles),
            field_scale_v_per_m=model.info.field_scale_v_per_m,
            provider=model.provider,
        ),
        versions=versions,
        replay=replay,
    )


def geometry_message(model: Model, subject: Subject | None) -> tuple[GeometryHeader, Arrays]:
    """Return where the voxels are, with the cortex's surface if the subject is known."""
    info = model.info
    header = GeometryHeader(
        subject=subject.name if subject else "",
        space=subject.space if subject else "scanner space, RAS: x right, y anterior, z superior",
        hemisphere=subject.hemisphere if subject else "",
        box_shape=list(info.box_shape),
        n_voxels=int(info.voxel.shape[0]),
    )
    arrays: dict[str, tuple[np.ndarray[Any, Any], str]] = {"voxel": (info.voxel, "1"), "affine": (info.affine, "mm")}
    if subject:
        arrays["vertices"] = (subject.vertices, "mm")
        arrays["triangles"] = (subject.triangles, "1")
    return header, arrays


def trial_message(result: PulseResult, n_muscles: int) -> tuple[TrialHeader, Arrays]:
    """Return one pulse and what the muscles did, valid or not."""
    trial, meps = result.trial, result.meps
    header = TrialHeader(
        **_pulse_fields(result),
        valid=trial.valid,
        reasons=list(trial.reasons),
        status=[status_text(int(flags)) for flags in meps.status] if meps else [],
        sweep_start_ms=trial.sweep_start_ms,
        rate_hz=trial.rate_hz,
        pose_tracked=trial.pose is not None and trial.pose.tracked,
        intensity_percent_mso=trial.intensity.percent_mso if trial.intensity else None,
    )
    nothing = np.full(n_muscles, np.nan, dtype=np.float32)
    no_pose = np.full((4, 4), np.nan)
    return header, {
        "sweep_uv": (trial.sweep_uv.astype(np.float32), "uV"),
        "mep_uv": (meps.amplitude_uv if meps else nothing, "uV"),
        "onset_ms": (meps.onset_ms if meps else nothing, "ms"),
        "peak_ms": (meps.peak_ms if meps else np.stack((nothing, nothing), axis=1), "ms"),
        "baseline_rms_uv": (meps.baseline_rms_uv if meps else nothing, "uV"),
        "control_uv": (meps.control_uv if meps else nothing, "uV"),
        "pose": (trial.pose.matrix if trial.pose and trial.pose.tracked else no_pose, "mm"),
    }


def map_message(result: PulseResult) -> tuple[MapHeader, Arrays] | None:
    """Return the estimated field of one pulse, or None if there is none."""
    estimate = result.map
    if estimate is None:
        return None
    header = MapHeader(**_pulse_fields(result), scale_v_per_m=estimate.scale_v_per_m)
    arrays: dict[str, tuple[np.ndarray[Any, Any], str]] = {
        "field": (estimate.field, "1"),
        "spread": (estimate.spread, "1"),
        "cog_mm": (estimate.cog_mm, "mm"),
        "cog_cov_mm2": (estimate.cog_cov_mm2, "mm^2"),
        "mep_normalised": (estimate.mep_normalised, "1"),
    }
    computed = result.computed
    if computed is not None:
        header.computed_field_reason = computed.reason
        header.computed_field_residual = computed.residual
        if computed.field_v_per_m is not None:
            arrays["computed_field"] = (computed.field_v_per_m, "V/m")
        if computed.agreement is not None:
            agreement = computed.agreement
            header.computed_field_agreement = FieldAgreement(
                correlation=agreement.correlation,
                nrmse=agreement.nrmse,
                cog_distance_mm=agreement.cog_distance_mm,
            )
    return header, arrays


def _pulse_fields(result: PulseResult) -> dict[str, Any]:
    trial, estimate = result.trial, result.map
    return {
        "pulse": trial.pulse_id,
        "t_pulse_raw": trial.t_raw,
        "t_pulse": trial.t,
        # JSON has no infinity; a second of doubt says as much.
        "t_uncertainty": trial.t_uncertainty if math.isfinite(trial.t_uncertainty) else 1.0,
        "trigger_source": trial.trigger_source,
        "offsets_ms": trial.offsets_ms,
        "stages_us": result.stages_us,
        "model_sha256": result.model_sha256,
        "gains": list(result.gains),
        "confidence": estimate.confidence if estimate else "low",
        "confidence_reasons": list(estimate.confidence_reasons) if estimate else list(trial.reasons),
    }
