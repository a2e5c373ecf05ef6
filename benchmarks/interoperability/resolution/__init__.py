"""From micrographs to maps: what each picker's particles come to in RELION."""
