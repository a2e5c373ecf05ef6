"""How every published number is measured, in one folder for each kind of question; README.md has the list.

A script is run by itself, with the Python of `make test`, whose installation knows this folder.
"""
