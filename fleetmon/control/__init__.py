"""Operate a running fleet from outside: wire protocol, server, client."""
