"""One Ray Tune experiment: the searchers that hand out trials, the workers that train them, their checkpoints."""
