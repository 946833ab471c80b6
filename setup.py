"""What pyproject.toml cannot say: conf/ becomes tau2_exp/conf in a wheel, which also notes its commit."""

import sys
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

sys.path.insert(0, str(Path(__file__).parent))
from tau2_exp.system.code import BUILT_FROM, PACKAGE, current_commit


class BuildWithCommit(build_py):
    """Builds the package, and notes in it the commit that it was built from."""

    def run(self) -> None:
        """Build; where the build is not editable, write the commit file too."""
        super().run()
        if not self.editable_mode:  # a checkout asks git
            target = Path(self.build_lib, PACKAGE.name, BUILT_FROM.relative_to(PACKAGE))
            target.write_text(f"{current_commit() or ''}\n")


setup(
    packages=[*find_packages(include=["tau2_exp", "tau2_exp.*"]), "tau2_exp.conf"],
    package_dir={"tau2_exp.conf": "conf"},
    cmdclass={"build_py": BuildWithCommit},
)
