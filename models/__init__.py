"""Networks, losses and metrics for mask and depth from one RGB image. Knows neither data nor search."""
