"""`python -m gtpick_rt` is `gtpick-rt`."""

from gtpick_rt.cli.main import main

main()
