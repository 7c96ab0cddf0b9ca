"""The one exception that means "the input is at fault, not the program"."""


class InputError(Exception):
    """Bad input: a file, an utterance or a setting that cannot be used.

    The message is one line that names the file, utterance or key, the value found and the value expected.
    The command line prints it and exits with status 2.
    """


class Interrupted(Exception):  # noqa: N818  it is none of the program's errors
    """A signal ended the work; what was done is saved, and the message says where.

    The command line exits with 128 and the signal's number.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


class TrainingError(Exception):
    """Training cannot go on although the input was accepted: numbers that are not finite, or a process that is gone.

    The message names utterances, weights or the process, and the last checkpoint; the command line exits with status 1.
    """
