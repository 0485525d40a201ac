"""What happened to the EMG stream and its triggers beside the trials: for the log, the console and the record."""

from dataclasses import dataclass


@dataclass(frozen=True)
class StreamNote:
    """One thing that happened.

    Attributes
    ----------
    kind
        ``gap``, ``duplicate`` or ``clock_step`` (a break in the stream); ``late_stamps`` (nothing was lost);
        ``double_marker``; ``unmatched_trigger`` (a source told of a pulse that no other saw); ``trigger_disagreement``.
    index
        Sample of the EMG stream.
    ms
        Size of the break, of the lateness or of the disagreement; 0 for what has none.
    text
        One sentence for people.
    """

    kind: str
    index: int
    ms: float
    text: str
