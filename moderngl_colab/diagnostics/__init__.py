"""The doctor: the machine examined, every strategy tried for real, and a report of both."""
