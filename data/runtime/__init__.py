"""Services of the process: atomic files, the cache folder, parallel jobs, progress bars, exit codes of commands."""
