"""What may be asked of a running session, and what it answers: typed commands and replies, parsed trusting nothing.

A request and its reply are one JSON object each. This module owns no socket; `rt_engine.edges.control` receives and
answers, the session carries out.
"""

from typing import Annotated, Any, TypeAlias

import msgspec

from rt_engine.errors import ControlError
from rt_engine.estimator import GAIN_LIMITS
from rt_engine.messages import SCHEMA
from rt_engine.settings import explain_validation

MAX_REQUEST_BYTES = 16 * 1024
"""A longer request is refused unread."""

Identity = Annotated[str, msgspec.Meta(max_length=64)]
Reason = Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
Pulse = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
MuscleName = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
Gain = Annotated[float, msgspec.Meta(ge=GAIN_LIMITS[0], le=GAIN_LIMITS[1])]


class Request(
    msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True, tag_field="command", tag="request"
):
    """What every request carries beside its `command`."""

    schema: str = SCHEMA
    id: Identity = ""
    """Chosen by who asks; comes back in the reply."""


class Mark(Request, kw_only=True, frozen=True, forbid_unknown_fields=True, tag="mark"):
    """Mark a pulse as one not to be counted later; what was measured stays as it is."""

    pulse: Pulse
    reason: Reason


class Unmark(Request, kw_only=True, frozen=True, forbid_unknown_fields=True, tag="unmark"):
    """Take a mark back; the record keeps both."""

    pulse: Pulse
    reason: Annotated[str, msgspec.Meta(max_length=500)] = ""


class SwapModel(Request, kw_only=True, frozen=True, forbid_unknown_fields=True, tag="swap_model"):
    """Take another model, from the next trial on."""

    path: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
    """Model file, absolute, on the engine's machine."""
    sha256: Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{64})?$")] = ""
    """SHA-256 that the file must have; empty takes what is there."""


class Calibrate(Request, kw_only=True, frozen=True, forbid_unknown_fields=True, tag="calibrate"):
    """Set the gain per muscle that this session's amplitudes are multiplied with before the model sees them.

    The electrodes sit elsewhere today than when the model was fitted. Amplitudes are published as measured.
    """

    gains: Annotated[dict[MuscleName, Gain], msgspec.Meta(min_length=1, max_length=256)]
    """Muscle -> gain; 1 for each that is not named."""


Command: TypeAlias = Mark | Unmark | SwapModel | Calibrate

COMMANDS: dict[str, type[Command]] = {
    "mark": Mark,
    "unmark": Unmark,
    "swap_model": SwapModel,
    "calibrate": Calibrate,
}
"""What `command` may be -> type of the request. Nothing else is accepted."""


class Reply(msgspec.Struct, kw_only=True):
    """What the session did about one request."""

    schema: str = SCHEMA
    ok: bool
    error: str = ""
    """Why it was not done; empty if it was."""
    command: str = ""
    """As in the request; empty if that could not be read."""
    id: str = ""
    """As in the request."""
    session: str = ""
    detail: dict[str, Any] = {}
    """What was done, e.g. the model's digest or the gains now in force."""


class _Envelope(msgspec.Struct):
    """What must be known of a request before the rest is read."""

    command: str
    schema: str = SCHEMA
    id: Identity = ""


_envelope_decoder = msgspec.json.Decoder(_Envelope)
_decoders: dict[str, msgspec.json.Decoder[Any]] = {name: msgspec.json.Decoder(kind) for name, kind in COMMANDS.items()}
_reply_decoder = msgspec.json.Decoder(Reply)
_encoder = msgspec.json.Encoder()


def encode_control(message: Command | Reply) -> bytes:
    """Return a request or a reply as JSON, UTF-8."""
    return _encoder.encode(message)


def command_name(command: Command) -> str:
    """Return what stands under `command` in the request."""
    return str(command.__struct_config__.tag)


def parse_request(content: bytes) -> Command:
    """Parse one request, trusting nothing.

    Parameters
    ----------
    content
        JSON, UTF-8.

    Returns
    -------
    Mark, Unmark, SwapModel or Calibrate

    Raises
    ------
    ControlError
        If it is too long, no JSON, of another schema, an unknown command, or has a field that is missing, unknown or of
        a wrong type, size or value. `ControlError.request_id` is the request's own, as far as it could be read.
    """
    if len(content) > MAX_REQUEST_BYTES:
        raise ControlError(f"the request has {len(content)} bytes; expected at most {MAX_REQUEST_BYTES}")
    try:
        envelope = _envelope_decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ControlError(
            f"the request cannot be read: {_place(str(error))}; expected a JSON object with a command: "
            + ", ".join(COMMANDS)
        ) from error
    if envelope.schema != SCHEMA:
        raise ControlError(
            f"the request speaks {envelope.schema[:40]!r}, this engine {SCHEMA!r}: update the older side", envelope.id
        )
    if envelope.command not in _decoders:
        raise ControlError(f"unknown command {envelope.command[:40]!r}; known are {', '.join(COMMANDS)}", envelope.id)
    try:
        command: Command = _decoders[envelope.command].decode(content)
        _refuse_control_characters(command)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        text = explain_validation(str(error), COMMANDS[envelope.command])
        raise ControlError(f"{envelope.command}: {_place(text)}", envelope.id) from error
    return command


def parse_reply(content: bytes) -> Reply:
    """Parse one reply.

    Raises
    ------
    ControlError
        If it is none, or speaks another schema.
    """
    try:
        reply = _reply_decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ControlError(f"what answered is no engine of m2m-live: {error}") from error
    if reply.schema != SCHEMA:
        raise ControlError(f"the engine speaks {reply.schema[:40]!r}, this program {SCHEMA!r}: update the older side")
    return reply


def control_schemas() -> dict[str, dict[str, Any]]:
    """Return the JSON Schema of each command and of the reply, generated from the types above."""
    schemas = {f"control_{name}": msgspec.json.schema(kind) for name, kind in COMMANDS.items()}
    return {**schemas, "control_reply": msgspec.json.schema(Reply)}


def _refuse_control_characters(command: Command) -> None:
    """Refuse what no text needs and no terminal, log line or HDF5 attribute should get to see."""
    gains = list(command.gains) if isinstance(command, Calibrate) else []
    texts = [value for name in command.__struct_fields__ if isinstance(value := getattr(command, name), str)]
    for text in (*texts, *gains):
        if not text.isprintable():
            raise ValueError(f"{text[:40]!r} holds characters that cannot be printed; expected one line of text")


def _place(message: str) -> str:
    """Say places as the request's own, not as msgspec's path."""
    return message.replace(" - at `$`", "").replace(" - at `$.", " - at `")[:500]
