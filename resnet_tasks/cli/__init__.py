"""The command line.  Its modules import click alone; commands import what is heavy."""
