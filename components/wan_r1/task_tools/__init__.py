"""``wan-r1 tasks``: make a small data set from a few words, look at one, and exchange it with VR-Bench's folders."""
