# %% [markdown]
# # Lesson 02: A derivative, checked by differences
#
# 9 minutes to read, about 10 to solve. You will write one function of two lines, and find the one setting in
# it that matters.

# %% [markdown]
# ## The question
#
# You have written a derivative by hand. How do you know that it is right?
#
# This question comes first because everything later depends on it. A large model is trained by its
# *gradient*: the derivatives of its loss, one for each parameter. A model with a slightly wrong gradient
# still trains: more slowly, to a worse loss, and without an error message. So every derivative in this
# library is checked against something that cannot share its mistakes: the function itself.

# %% [markdown]
# ## Where it lives
#
# `minimega/gradcheck/differences.py` measures slopes; its tests are in `tests/gradcheck/test_gradcheck.py`.

# %%
import numpy as np
from matplotlib import pyplot as plt

from minimega.gradcheck import differences
from minimega.learn import BLUE, ORANGE, check, picture, show

# %% [markdown]
# ## The mathematics
#
# The derivative is a limit, and a computer cannot take limits. It can take a small step $h$. The obvious
# thing is to look at $x$ and one step to the right. Taylor's series says what that costs:
#
# $$\frac{f(x+h) - f(x)}{h} \;=\; f'(x) + \frac{h}{2} f''(x) + \dots$$
#
# The *forward difference* is off by a term that shrinks like $h$. Now take a step to the right **and** a step
# to the left. All even terms of the series are the same on both sides, so they cancel:
#
# $$\frac{f(x+h) - f(x-h)}{2h} \;=\; f'(x) + \frac{h^2}{6} f'''(x) + \dots$$
#
# The *central difference* is off by a term that shrinks like $h^2$. With $h = 10^{-3}$, the error is of the
# order of $10^{-6}$, not of $10^{-3}$. This part of the error is called **truncation**: it comes from the
# terms of the series that we cut off.
#
# There is a second part. A float64 keeps about 16 digits: its relative error is up to $\varepsilon/2$, with
# $\varepsilon = 2.2 \cdot 10^{-16}$. The two values of $f$ are almost equal, so their difference has few
# correct digits, and we divide it by something small. This part is **rounding**, and it grows as $h$ shrinks.
# So does another: $x + h$ is rounded too. Near $x = 10^6$ neighbouring float64 numbers are $10^{-10}$ apart,
# so a step of $10^{-5}$ is off by up to six millionths of itself: the step has to grow with $x$. For an $x$
# near 1 the sum of both parts is
#
# $$\text{error of the central difference} \;\approx\;
# \underbrace{\frac{h^2}{6} |f'''|}_{\text{truncation}} \;+\;
# \underbrace{\frac{\varepsilon}{2h} |f|}_{\text{rounding}}$$

# %% [markdown]
# ## Predict, then run
#
# The next cell measures the slope of $\sin$ at $x = 1$ with steps from $10^{-1}$ down to $10^{-13}$, and
# prints the error of each. Before you run it: **which of these steps will be best?** And how many digits will
# be correct there? Write your guess down.
#
# <details><summary>The answer, once you have a guess</summary>
#
# The best step is near $10^{-5}$, and about eleven digits are correct there. Smaller is not better. Both
# terms above are equal near $h = \sqrt[3]{3 \varepsilon |f| / |f'''|}$; for $\sin$ that is about $10^{-5}$.
# Below that, each step that is ten times smaller loses about one digit to rounding.
#
# </details>

# %%
x, truth = 1.0, np.cos(1.0)

for digits in range(1, 14):
    h = 10.0**-digits
    central = (np.sin(x + h) - np.sin(x - h)) / (2 * h)
    print(f"h = 1e-{digits:02}   slope {central:.14f}   error {abs(central - truth):.0e}")

# %% [markdown]
# ## The picture
#
# On two logarithmic axes a power of $h$ is a straight line, and its exponent is the slope of that line. So
# you can read the formulas off the picture: truncation falls to the left with slope 1 (forward) and 2
# (central), rounding rises to the left with slope $-1$.

# %%
h = np.logspace(-13, -0.5, 400)
forward = abs((np.sin(x + h) - np.sin(x)) / h - truth)
central = abs((np.sin(x + h) - np.sin(x - h)) / (2 * h) - truth)
eps = np.finfo(float).eps

figure, axes = picture(height=4.2)
axes.loglog(h, forward, ".", color=ORANGE, markersize=3, label="forward difference")
axes.loglog(h, central, ".", color=BLUE, markersize=3, label="central difference")
axes.loglog(h, h / 2 * np.sin(x), "--", color=ORANGE, linewidth=1)
axes.loglog(h, h**2 / 6 * np.cos(x), "--", color=BLUE, linewidth=1)
axes.loglog(h, eps / (2 * h) * np.sin(x), ":", color="black", linewidth=1)
axes.annotate("truncation, h", (1e-3, 1.2e-3), ha="right", color=ORANGE)
axes.annotate("truncation, h²", (3e-3, 2e-7), ha="left", color=BLUE)
axes.annotate("rounding, 1/h", (3e-11, 3e-4), ha="left")
axes.set(xlabel="step h", ylabel="error of the slope", ylim=(1e-14, 1))
axes.legend(frameon=False, loc="upper right", bbox_to_anchor=(1, 0.32), markerscale=3)
plt.show()

# %% [markdown]
# The dots are the measured errors. The lines are the formulas, with nothing fitted; the dotted one is for the
# central difference. Left of the lowest point the dots jump about: rounding is not a smooth function of $h$,
# and its formula says how large it can be.

# %% [markdown]
# ## How the library does it
#
# The checker takes the idea one step further. If you know that the error begins with $c\,h^2$, then two
# central differences, at $h$ and at $h/2$, tell you $c$, and you can subtract it. That is Richardson
# extrapolation. It removes the $h^2$, and with a third difference the $h^4$ too, so the checker can afford a
# large step, where rounding is small. Look for the three lines with `d`, `first` and `second`, and `value`;
# the rest of the function finds a step and estimates its own error.

# %%
show(differences.slope)

# %%
found = differences.slope(lambda t: np.array([np.sin(x + t)]), np.array([np.sin(x)]))
print(f"error of the library's slope: {abs(found.value[0] - truth):.0e}")
print(f"its own estimate of that error: at most {found.error[0]:.0e}")

# %% [markdown]
# Note the word *kink* in the code. At $x = 0$ the function $|x|$ has one slope on its left and another on its
# right. The central difference takes the mean of both, 0, and notices nothing. The checker compares the two
# sides, and refuses to judge there.

# %% [markdown]
# ## Your exercise
#
# Write `slope(f, x)`: the derivative of `f` at the number `x`, by a central difference. It must work for any
# `x`: for 1 and for 1000000.
#
# Run the cell below it to check your answer. In a shell, `minimega learn check 02` does the same, `minimega
# learn hint 02` gives you a hint, and `minimega learn solution 02` the solution.


# %% tags=["exercise"]
def slope(f, x):
    """The derivative of f at x, from values of f alone."""
    return ...


# %%
check(2, slope)

# %% [markdown]
# ## Read next
#
# - Lewis Fry Richardson, *The Approximate Arithmetical Solution by Finite Differences of Physical Problems
#   Involving Differential Equations, with an Application to the Stresses in a Masonry Dam* (1911): where the
#   extrapolation comes from.
# - William Squire and George Trapp, *Using Complex Variables to Estimate Derivatives of Real Functions*
#   (1998): a step along the imaginary axis, in which nothing cancels. The checker uses it as a second
#   opinion.
# - Atılım Güneş Baydin, Barak A. Pearlmutter, Alexey Andreyevich Radul and Jeffrey Mark Siskind, *Automatic
#   Differentiation in Machine Learning: a Survey* (2015): why we differentiate by rules, and only check by
#   differences.
#
# Next lesson: 03, the linear layer, whose backward you will write and check in this way.
