"""The exceptions: every one is a BitNetError and the builtin that fits."""


class BitNetError(Exception):
    """What bitnet_rust raises."""


class ModelNotFoundError(BitNetError, FileNotFoundError):
    """There is nothing at the path given as a model, and it is no hub id."""


class CheckpointError(BitNetError, ValueError):
    """A file of the checkpoint is damaged, or contradicts another."""


class ConfigError(CheckpointError):
    """config.json does not say what it must, or names an architecture that is not known."""


class TokenizerError(BitNetError, ValueError):
    """The tokenizer is absent or damaged."""


class ChatTemplateError(BitNetError, ValueError):
    """The chat template is absent, or refused the messages."""


class PromptError(BitNetError, ValueError):
    """A prompt or text that is empty, too short, or has ids outside the vocabulary."""


class ContextLengthError(PromptError):
    """A prompt that does not fit the context."""


class OptionError(BitNetError, ValueError):
    """An option out of its range."""


class ShapeError(BitNetError, ValueError):
    """An array of the wrong shape."""


class DTypeError(BitNetError, TypeError):
    """A data type that is not known, or that the operation does not have."""


class OutOfRangeError(BitNetError, IndexError):
    """An index beyond its dimension."""


class QuantizationError(BitNetError, ValueError):
    """A value that cannot be quantized, or a code that is not ternary."""


class GradientError(BitNetError, RuntimeError):
    """An operation that has no gradient, or a gradient that cannot be had or set here."""


class DataError(BitNetError, ValueError):
    """Data for training that is damaged, too little, or has nothing to learn."""


class DivergedError(BitNetError, ArithmeticError):
    """A training whose loss stays out of bounds, however low the learning rate."""


class DeviceError(BitNetError, RuntimeError):
    """A device or instruction set that is not there."""


class HubError(BitNetError, ConnectionError):
    """The hub did not deliver."""


class OutOfMemoryError(BitNetError, MemoryError):
    """A sequence or a model that does not fit into memory, or into what it may have of it."""


class QueueFullError(BitNetError, RuntimeError):
    """An engine has as many requests as may wait; try again later."""


class EngineClosedError(BitNetError, RuntimeError):
    """An engine that takes no more requests, or runs in another process."""


class FileError(BitNetError, OSError):
    """The operating system refused; errno and filename say what and where."""


class MissingFileError(FileError, FileNotFoundError):
    """A file that is not there."""


class FilePermissionError(FileError, PermissionError):
    """A file that may not be read or written."""


for _error in list(globals().values()):
    if isinstance(_error, type) and issubclass(_error, BitNetError):
        _error.__module__ = "bitnet_rust"
