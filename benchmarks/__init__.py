"""How every published number is measured, a folder for each kind of question.

README.md lists the questions with their last answers.

A script is run by itself, with the Python of `make test`, whose installation knows this folder.
"""
