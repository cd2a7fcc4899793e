"""What the command line does before a run begins: settings file, checks of the options, dry run."""
