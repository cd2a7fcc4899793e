"""Services of the process: atomic files and the cache folder, parallel jobs, progress bars, ends of command lines.

Import `data.runtime.parallel` from the module: it loads OpenCV.
"""

from data.runtime.cores import count_cores
from data.runtime.files import cache_dir, write_atomically
from data.runtime.progress import Progress, ShowProgress, progress_bar

__all__ = ["Progress", "ShowProgress", "cache_dir", "count_cores", "progress_bar", "write_atomically"]
