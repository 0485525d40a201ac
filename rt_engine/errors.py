"""The one exception hierarchy of m2m-live.

Every error that a user can cause derives from `M2MError`; the command line prints its text without a traceback.
A message says what was found, what was expected and what to do.
"""


class M2MError(Exception):
    """Root of all errors that m2m-live raises on purpose."""


class SettingsError(M2MError):
    """A settings file or value cannot be used."""


class FileFormatError(M2MError):
    """A file is damaged, truncated, of another kind, or of a newer version than this software reads."""


class StreamError(M2MError):
    """An LSL stream is missing, ambiguous, lost, or not what the session needs."""


class ModelError(M2MError):
    """A model does not fit the session or gave something unusable."""


class RecordingError(M2MError):
    """Recording cannot start, or a recording cannot be replayed."""


class DataError(M2MError):
    """Data handed in have the wrong shape, unit or values."""


class CoverageError(DataError):
    """A coil pose lies outside what a reduced basis covers, so its E-field is not known.

    Parameters
    ----------
    message : str
        What was found, what was expected, what to do.
    residual : float
        Relative residual of the fit to the coil's field.
    limit : float
        Largest residual that is answered.
    """

    def __init__(self, message: str, residual: float, limit: float) -> None:
        super().__init__(message)
        self.residual = residual
        self.limit = limit


class ControlError(M2MError):
    """A control request cannot be understood or carried out, or nobody answers one.

    Parameters
    ----------
    message : str
        What was found, what was expected, what to do.
    request_id : str
        Of the request, if it had one that could be read.
    """

    def __init__(self, message: str, request_id: str = "") -> None:
        super().__init__(message)
        self.request_id = request_id
