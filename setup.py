"""The packages of the distribution, found by their folders, and the files that a wheel carries besides.

A wheel holds `configs/` as `pipeline/share/configs` and the dataset `puppets` as `pipeline/share/puppets`. An editable
install reads both where they lie in the checkout. It is one entry of the path: a finder hook would be asked too late
where the current folder holds a clone named `unreel`.
"""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

SHARED = {"configs": "configs", "datasets/puppets": "puppets"}


class BuildWithShared(build_py):
    """Copies the shared files into a build that becomes a wheel."""

    def run(self) -> None:
        """Build the packages, then copy the shared folders."""
        super().run()
        if self.editable_mode:
            return
        for source, name in SHARED.items():
            target = Path(self.build_lib, "pipeline", "share", name)
            shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))


setup(
    packages=find_packages(include=["pipeline", "pipeline.*", "unreel"]),
    package_dir={"": "."},
    cmdclass={"build_py": BuildWithShared},
)
