"""What controllers learn from and are judged by: outcomes of a profile, features, budgets, choosers, their report."""
