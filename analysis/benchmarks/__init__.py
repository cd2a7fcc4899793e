"""What is fast and what searching buys, measured side by side."""
