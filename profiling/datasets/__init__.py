"""Visual question answering datasets: one kind of sample, and a reader for each dataset's official files."""
