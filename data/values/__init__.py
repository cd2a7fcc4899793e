"""Read the files of a triplet as what their values mean: decode formats, masks and depth; infer what is not stated."""
