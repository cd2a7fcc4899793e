"""Print the install and test commands of the README's blocks marked <!-- ci -->, one a line.

Of the quick start only the installation is printed here: the run that follows it is typed by the tests.
"""

import re
import sys
from pathlib import Path


def commands(text: str) -> list[str]:
    """Return the lines of every marked block that install or test, comments left out."""
    blocks = re.findall(r"<!-- ci -->\s*```bash\n(.*?)```", text, flags=re.DOTALL)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("pip install")]


if __name__ == "__main__":
    found = commands(Path(sys.argv[1]).read_text(encoding="utf-8"))
    if len(found) < 2 or not any("pytest" in line for line in found):
        sys.exit("README.md has no marked blocks that install and test")
    print("\n".join(found))
