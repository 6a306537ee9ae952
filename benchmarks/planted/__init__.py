"""Plant differences as people meet them, and check what `explain` says about them.

`worlds` generates the rows, `kinds` describes a difference and the truth about it, `termina` and `adapty` list the
kinds, `perturbed` changes tables at random, so that nothing may be named, and `verdict` judges an explanation.
``python -m benchmarks.planted --help`` lists the options.
"""
