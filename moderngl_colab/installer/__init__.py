"""The GL half of the driver, in exactly the kernel module's version, for a process without root."""
