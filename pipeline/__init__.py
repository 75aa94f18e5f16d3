"""unreel, a video recogniser: a CNN extracts features of frames, one recurrent core reads them in order, heads answer.

`pipeline.commands.train` is the place to begin reading; `pipeline.cli` is the command. Importing this package
imports nothing else, so that `unreel --help` answers at once.
"""

__version__ = "0.2.0"
