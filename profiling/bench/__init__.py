"""Our engines against transformers' models and against what the hardware can do."""
