"""What may be promised about time, and how sure it is: bounds on latency, margins tested on fresh runs, drift."""
