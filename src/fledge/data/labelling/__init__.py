"""People label: tasks from rows, labels in a log, agreement and training rows out of them."""
