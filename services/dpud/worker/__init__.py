"""The worker: leases tasks, runs each in a process of its own, ships what it prints and keeps what it makes."""
