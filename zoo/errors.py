"""What can go wrong through no fault of the code. A message says what came, what was expected, what to do."""


class ZooError(Exception):
    """A mistake in what was given to the zoo; the command line prints it as one sentence, without a stack trace."""


class SettingError(ZooError, ValueError):
    """A setting or argument has a name or value that cannot be used."""


class DataError(ZooError, ValueError):
    """A file, folder or data set cannot be used as it is."""


class ExportError(ZooError, RuntimeError):
    """A model cannot be written in the form that was asked for."""


class VerifyError(ExportError):
    """A written file does not do what the model does, or is damaged."""


class TrainError(ZooError, RuntimeError):
    """Training cannot go on; what was reached so far is kept."""


class Interrupted(ZooError):
    """The user stopped the work; what was reached so far is kept."""


class ZooWarning(UserWarning):
    """Something was passed over, or looks wrong, and the work goes on."""
