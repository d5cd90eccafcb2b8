"""Typical wrong answers to lesson 21."""

HEAD = "def norm(own, group):\n"
SHARE = "    total = sum((g * g).sum() / n for g, n in own)\n"

WRONG = [
    (
        "copies counted on each rank",
        HEAD + "    return np.sqrt(group.all_reduce(sum((g * g).sum() for g, n in own)))",
        r"^among ranks: what several ranks hold counts once for each of them$",
    ),
    (
        "all divided by the number of ranks",
        HEAD + "    return np.sqrt(group.all_reduce(sum((g * g).sum() for g, n in own)) / group.size)",
        r"^among ranks: everything is divided by the number of ranks",
    ),
    (
        "this rank's share alone",
        HEAD + SHARE + "    return np.sqrt(total)",
        r"this rank's share alone: no sum",
    ),
    (
        "the roots added up",
        HEAD + SHARE + "    return group.all_reduce(np.sqrt(total))",
        r"each rank takes a root, and the roots are added up$",
    ),
    ("no root", HEAD + SHARE + "    return group.all_reduce(total)", r"^one array, .*: the root is missing$"),
    (
        "norms added up",
        HEAD + "    return group.all_reduce(sum(np.sqrt((g * g).sum()) / n for g, n in own))",
        r"^two arrays .* the norms are added, and the root of 9 \+ 16 is not 3 \+ 4$",
    ),
    ("sizes added up", HEAD + "    return sum(abs(g).sum() / n for g, n in own)", r"adds up no squares$"),
    (
        "the last array alone",
        HEAD + "    for g, n in own:\n        t = (g * g).sum()\n    return np.sqrt(t)",
        r"first array",
    ),
    (
        "multiplied by the holders",
        HEAD + "    return np.sqrt(group.all_reduce(sum((g * g).sum() * n for g, n in own)))",
        r"^among ranks: what several ranks hold is multiplied",
    ),
    (
        "the holders squared",
        HEAD + "    return np.sqrt(group.all_reduce(sum(((g / n) ** 2).sum() for g, n in own)))",
        r"^among ranks: the number of holders divides the entries, so it is squared with them$",
    ),
    (
        "copies of rank 0 alone",
        HEAD
        + "    mine = [g for g, n in own if n == 1 or group.rank == 0]\n"
        + "    return np.sqrt(group.all_reduce(sum((g * g).sum() for g in mine)))",
        r"^among ranks: what rank 0 does not hold, but two other ranks do, is missing$",
    ),
    (
        "a message for each array",
        HEAD + "    return np.sqrt(sum(group.all_reduce((g * g).sum() / n) for g, n in own))",
        r"^among ranks: the norm is right, but each array has its own message: .* would not meet$",
    ),
    (
        "a mean of the squares",
        HEAD + "    return np.sqrt(group.all_reduce(sum((g * g).mean() / n for g, n in own)))",
        r"^one array, 3 and -4, on one rank: its norm is 5$",
    ),
    (
        "a return too early",
        HEAD
        + SHARE
        + "    if group.rank == 0:\n        return np.sqrt(group.all_reduce(total))\n    return total",
        r"^on rank 1 of 4: among ranks: this is not the norm of all gradients",
    ),
    (
        "the norm of a matrix by a dot product",
        HEAD + "    return np.sqrt(group.all_reduce(sum(g @ g / n for g, n in own)))",
        r"^the result has shape \(2, 2\); it should be \(\)$",
    ),
]
