"""The errors a user can cause. Each message says what, where, what was expected and what to do."""


class ImglishError(Exception):
    """Base of all errors shown to the user as one line, without a traceback."""


class ConfigError(ImglishError):
    """A setting is unknown or has an illegal value."""


class DataFormatError(ImglishError):
    """A data file is missing, damaged or not in the published layout."""


class CheckpointError(ImglishError):
    """A checkpoint is missing, damaged or belongs to another architecture."""
