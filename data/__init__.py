"""Data: folders of triplets, packed arrays, splits, batches. Knows neither networks nor the search."""
