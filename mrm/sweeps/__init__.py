"""Sweeps: members as processes of their own, several at once, told apart and found again by what they compute."""
