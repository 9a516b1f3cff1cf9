"""The service as a process: started, stopped, killed, and misused from the command line."""
