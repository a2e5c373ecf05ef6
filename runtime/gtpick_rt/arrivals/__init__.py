"""What is to be picked: micrographs that are listed, found in folders, or arriving while they are
waited for.

In come arguments, folders, lists and standard input, out come `Job`s, each when its file is whole.
Nothing of detection or output may be imported here.
"""
