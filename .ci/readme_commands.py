"""Print the install and test commands of the README's blocks marked <!-- ci -->, one a line."""

import re
import sys
from pathlib import Path


def commands(text: str) -> list[str]:
    """Return the lines of every marked block, comments left out."""
    blocks = re.findall(r"<!-- ci -->\s*```bash\n(.*?)```", text, flags=re.DOTALL)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


found = commands(Path(sys.argv[1]).read_text(encoding="utf-8"))
if not any("pip install" in line for line in found) or not any("pytest" in line for line in found):
    sys.exit("README.md has no marked block that installs and tests")
print("\n".join(found))
