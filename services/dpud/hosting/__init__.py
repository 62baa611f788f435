"""What puts a service on a port, and what happens around each of its calls."""
