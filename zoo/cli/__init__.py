"""The command `zoo`: train, export, verify and run recipes from a shell. Thin: the work is done by the other rooms."""

import os
import sys

import typer

from zoo.cli.commands import app
from zoo.cli.terminal import console, notices_hidden
from zoo.errors import Interrupted, SettingError, ZooError

_INTERRUPTED = 130  # 128 + SIGINT, as shells count
_UsageError = typer.BadParameter.__base__  # typer has no public name for it, and moved it between versions


def main(arguments=None):
    """Run the command line.

    Args:
        arguments: list of str, after the program's name (default: those of this process).

    Returns:
        The exit status: 0; 1 for a file, folder or model that cannot be used; 2 for a command or setting that cannot;
        130 after Ctrl-C.
    """
    with notices_hidden():
        try:
            status = typer.main.get_command(app)(arguments, prog_name="zoo", standalone_mode=False)
            sys.stdout.flush()
        except _UsageError as error:
            asked = error.ctx.command_path if error.ctx else "zoo"
            return _fail(f"{error.format_message().rstrip('.')}; `{asked} --help` shows what it takes.", 2)
        except Interrupted as error:
            return _fail(str(error), _INTERRUPTED)
        except ZooError as error:
            return _fail(str(error), 2 if isinstance(error, SettingError) else 1)
        except KeyboardInterrupt:
            status = _INTERRUPTED
        except BrokenPipeError:  # the reader, `head` for one, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it closes it
            return 1  # as typer does where it is the first to see it
        except OSError as error:  # of a name too long, a folder that may not be read, a full disk
            what = error if error.filename is None else f"{error.filename} cannot be used: {error.strerror}"
            return _fail(f"{what}; name another file or folder, or make room.", 1)
        except Exception as error:
            if not _out_of_memory(error):
                raise
            return _fail("there is not enough memory for this; take fewer units or a smaller batch_size.", 1)
        if status == _INTERRUPTED:  # typer makes this of Ctrl-C
            return _fail("interrupted; nothing was written.", status)
    return status or 0


def _out_of_memory(error):
    """Return whether an error is that of NumPy, TensorFlow, JAX or torch for too little memory, importing none."""
    return isinstance(error, MemoryError) or any(
        words in f"{type(error).__name__} {error}"
        for words in ("ResourceExhausted", "RESOURCE_EXHAUSTED", "OutOfMemory", "can't allocate memory")
    )


def _fail(sentence, status):
    console().print(sentence, style="red", markup=False, highlight=False, soft_wrap=True)
    return status
