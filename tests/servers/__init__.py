"""Real servers for tests: started by them on free ports of loopback, stopped by them."""
