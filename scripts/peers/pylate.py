"""PyLate; stub."""
