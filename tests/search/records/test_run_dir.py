"""Lock of a run folder."""

import subprocess
import sys


def test_locks_need_no_module_that_windows_lacks(tmp_path):
    code = (
        "import sys; sys.modules.update(fcntl=None, resource=None)\n"
        "from pathlib import Path\n"
        "from data.writing import StagingDir\n"
        "from search.records.run_dir import RunDirError, hold\n"
        f"StagingDir(Path({str(tmp_path / 'set')!r}), 'same').close()\n"
        f"with hold(Path({str(tmp_path)!r})):\n"
        f"    try: hold(Path({str(tmp_path)!r}))\n"
        "    except RunDirError as error: print(error)"
    )
    ended = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0 and "another process" in ended.stdout, ended.stderr
