"""Read run folders as pandas frames, whether the run is finished, running or cut off."""
