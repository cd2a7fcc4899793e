"""Services of the process: atomic files and the cache folder, parallel jobs, progress bars, ends of command lines."""
