"""Generated questions with pictures: seven families of tasks, each drawn anew from a seed at any size."""
