"""What a model answers when only some of its blocks run: measured once, kept on disk, shared out among devices."""
