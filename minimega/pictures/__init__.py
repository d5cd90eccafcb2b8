"""The pictures of the commands. Only this room, lessons and learn/ import matplotlib."""
