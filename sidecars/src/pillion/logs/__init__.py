"""Log shipping: files and pushed lines are masked, enriched and delivered; a position moves only after the sink has acknowledged."""
