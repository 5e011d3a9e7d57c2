"""What keeps a machine from the GPU: told by facts about it, with what mends it.

A finding is a function of :class:`moderngl_colab.machine.Machine` and of nothing else; the words of
a message decide nothing. ``every`` has them all; the chain takes those that it needs.
"""
