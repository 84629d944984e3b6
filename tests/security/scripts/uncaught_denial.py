"""Lets a denial through: the traceback names the missing capability."""

with open("/etc/passwd") as file:
    print(file.read())
