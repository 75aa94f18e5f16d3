"""The verbs of the command, one file each, and what several verbs share. Only this package sees all other parts."""
