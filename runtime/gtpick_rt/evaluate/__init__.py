"""How good picks are against labels.

In come picks and labels, out come figures, curves and a report. The rule, to be stated beside every
number: a pick can match a label whose centre lies within the radius; matching is one-to-one, with
as many matches as possible and, among such matchings, the least total distance. Precision is
matches / picks, recall matches / labels, F1 their harmonic mean; micro figures pool the matches of
all micrographs. A ratio whose denominator is 0 counts as 1: where nothing was to be found and
nothing was picked, nothing is wrong.

Beside it stands the same by boxes: square, of the nominal diameter, matched one to one at an IoU of
0.5 or more. That is never more lenient than a radius of a third of the diameter. Nothing of
detection or backends may be imported here.
"""
