"""unreel: a CNN looks, one recurrent core watches, many heads answer.

`pipeline.run` is the place to begin reading; `pipeline.cli` is the command. Importing this package
imports nothing else, so that `unreel --help` answers at once.
"""

__version__ = "0.1.0"
