# SPDX-License-Identifier: Apache-2.0
"""Ratios of measurements taken in turns, with a paired 95 % interval."""
import math
import statistics

# Two-sided 95 % quantiles of Student's t by degrees of freedom.
T95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262,
       10: 2.228, 11: 2.201, 12: 2.179, 13: 2.160, 14: 2.145, 15: 2.131, 19: 2.093, 29: 2.045}


def t95(freedom):
    return T95[max(known for known in T95 if known <= freedom)]


def compare(ours, peers):
    """Medians, their ratio, and the interval of the ratio from the rounds' own ratios (t on their
    logarithms).  The interval is widened to hold the ratio of the medians."""
    mine, theirs = statistics.median(ours), statistics.median(peers)
    logs = [math.log(a / b) for a, b in zip(ours, peers)]
    middle, half = statistics.mean(logs), 0.0
    if len(logs) > 1:
        half = t95(len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    ratio = mine / theirs
    return mine, theirs, ratio, min(ratio, math.exp(middle - half)), \
        max(ratio, math.exp(middle + half))
