"""One recipe per trained thing."""
