"""How much time is saved by choosing settings by what is asked, at equal accuracy."""
