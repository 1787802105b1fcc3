"""The errors a user can cause. Each message says what, where, what was expected and what to do."""


class ImglishError(Exception):
    """Base of all errors shown to the user as one line, without a traceback."""


class ConfigError(ImglishError):
    """A setting is unknown or has an illegal value."""


class DataFormatError(ImglishError):
    """A data file is missing, damaged or not in the published layout."""


class RemoteError(ImglishError):
    """Data at an address can not be had: never taken for a damaged sample, which another may stand in for."""


class CheckpointError(ImglishError):
    """A checkpoint is missing, damaged or belongs to another architecture."""
