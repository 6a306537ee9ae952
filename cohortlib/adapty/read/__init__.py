"""Read events and installs: Adapty's exports, webhook lines and RevenueCat's transactions.

Imports ``read`` and the engine.
"""
