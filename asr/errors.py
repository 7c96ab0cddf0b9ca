"""The exceptions that the command line turns into one line and an exit status."""


class InputError(Exception):
    """Bad input: a file, an utterance or a setting that cannot be used.

    The message is one line: the file, utterance or key, the value found and the value expected.
    The command line prints it and exits with status 2.
    """


class Interrupted(Exception):  # noqa: N818  not an error of the program
    """A signal stopped the program; finished work is saved, and the message says where.

    The command line exits with status 128 plus ``number``, the number of the signal.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number

    def __reduce__(self) -> tuple[type, tuple[str, int]]:
        """Lets processes send it to each other."""
        return type(self), (str(self), self.number)


class TrainingError(Exception):
    """Training cannot continue although its input is valid: a value is not finite, or a process died.

    The message names the utterances, the weights or the process, and the last checkpoint.
    The command line prints it and exits with status 1.
    """
