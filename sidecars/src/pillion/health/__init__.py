"""Health: probes of the application's dependencies, run in the background and answered from memory."""
