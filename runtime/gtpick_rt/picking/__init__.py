"""One request to pick, from its options to the summary: what the commands run, and
`gtpick_rt.pick`.

In comes a `Request`, out comes the `Summary`. It opens the output folder, the source and the
picker, and hands them to `pipeline` or `cluster`. Nothing of commands may be imported here.
"""
